"""Whether a pod has room for what its workers need beside the GPU: snapshots in shared memory, and their own. Pure.

What lies in /dev/shm counts against the pod's memory (Kubernetes, emptyDir with medium Memory).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SNAPSHOTS: Final = 2
"""One that is being written, and the newest complete one."""
RESERVED_BYTES: Final = 64 * 1024**2
"""What the agent leaves of a worker's shared memory to torch and NCCL."""
_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB")
_MEBIBYTE: Final = 1024**2


@dataclass(frozen=True)
class PodMemory:
    """The memory of one pod, in bytes."""

    snapshot_bytes: int
    """One checkpoint on this node; 0 while unknown."""
    workers: int
    process_bytes: int
    """Host memory of one worker."""
    shared_bytes: int
    """Size of /dev/shm."""
    limit_bytes: int | None = None
    """resources.memory; None where there is no limit."""


def check_pod_memory(pod: PodMemory) -> list[str]:
    """What is too small, each with what to set."""
    if not pod.snapshot_bytes:
        return []
    snapshots = SNAPSHOTS * pod.snapshot_bytes
    shared = snapshots + pod.workers * RESERVED_BYTES
    found = []
    if shared > pod.shared_bytes:
        found.append(
            f"two checkpoints of {format_bytes(pod.snapshot_bytes)} do not fit into {format_bytes(pod.shared_bytes)} of"
            " shared memory, so that every save goes to disk and training waits for it; set pod.sharedMemory:"
            f" {format_quantity(shared)}"
        )
    whole = pod.workers * pod.process_bytes + snapshots
    if pod.limit_bytes is not None and whole > pod.limit_bytes:
        found.append(
            f"processes and checkpoints need {format_bytes(whole)}, and resources.memory is"
            f" {format_bytes(pod.limit_bytes)}; set resources.memory: {format_quantity(whole)} or more"
        )
    return found


def format_bytes(size: float) -> str:
    """A size in the largest unit that leaves it at or above 1."""
    for unit in _UNITS[:-1]:
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} {_UNITS[-1]}"


def format_quantity(size: int) -> str:
    """A size as Kubernetes reads it, rounded up."""
    mebibytes = -(-size // _MEBIBYTE)
    return f"{mebibytes}Mi" if mebibytes < 10 * 1024 else f"{-(-mebibytes // 1024)}Gi"
