"""What the container's cgroup knows: processes killed for memory, CPUs allowed. Versions 1 and 2; 0 where unknown."""

from __future__ import annotations

import math
import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def count_oom_kills(root: Path = ROOT) -> int:
    """Processes that the kernel has killed in this cgroup because its memory was used up."""
    for name in ("memory.events", "memory/memory.oom_control"):
        for line in _read_lines(root / name):
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
    return 0


def count_cpus(root: Path = ROOT) -> int:
    """CPUs that this process may use: its affinity, cut by the cgroup's quota; at least 1."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _read_quota(root)
    return max(1, min(available, int(quota)) if quota else available)


def count_usable_cpus(request: str | None, root: Path = ROOT) -> int:
    """CPUs to plan threads for: no more than the pod asked for, where it asked (resources.cpu, a Kubernetes quantity).

    Pods that share a node and each start a thread for every core of it only wait for one another.
    """
    available = count_cpus(root)
    if request is None:
        return available
    asked = float(request[:-1]) / 1000 if request.endswith("m") else float(request)
    return max(1, min(available, math.ceil(asked)))


def _read_quota(root: Path) -> float | None:
    lines = _read_lines(root / "cpu.max")
    if lines:
        quota, _, period = lines[0].partition(" ")
        return None if quota == "max" else int(quota) / int(period)
    quotas, periods = _read_lines(root / "cpu/cpu.cfs_quota_us"), _read_lines(root / "cpu/cpu.cfs_period_us")
    if not quotas or not periods or int(quotas[0]) <= 0:
        return None
    return int(quotas[0]) / int(periods[0])


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
