"""What processes have cost, from /proc: CPU seconds and memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_MIB = 1024.0


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process."""

    now: float
    """MiB."""
    peak: float
    """MiB, the most since it began."""


def read_cpu(pids: dict[str, int]) -> dict[str, float]:
    """CPU seconds of each process since it began."""
    return {name: _read_cpu(pid) for name, pid in pids.items()}


def subtract(after: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    """CPU seconds between two readings; a process that is new began at 0."""
    return {name: round(seconds - before.get(name, 0.0), 2) for name, seconds in after.items()}


def read_memory(pid: int) -> Memory:
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return Memory(_read_mib(fields["VmRSS"]), _read_mib(fields["VmHWM"]))


def _read_cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _read_mib(text: str) -> float:
    return round(int(text.split(maxsplit=1)[0]) / _MIB, 1)
