"""Reaps processes whose parents died. The agent is a pod's PID 1, and elsewhere asks to be treated like one.

Must not touch children that somebody waits for. asyncio collects its own at once, so only what is still a zombie at the
second look is an orphan; the forkserver and its tracker are named by the caller.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Container
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_orphans(seen: Container[int], awaited: Container[int]) -> frozenset[int]:
    """Collect ended children that were so at the last look too; returns the ended ones to pass as `seen` next time."""
    zombies = [pid for pid in _find_zombies(os.getpid()) if pid not in awaited]
    return frozenset(pid for pid in zombies if not (pid in seen and _reap(pid)))


def _find_zombies(parent: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        found += [int(pid) for pid in _read(task).split() if _is_zombie(int(pid))]
    return found


def _is_zombie(pid: int) -> bool:
    return _read(Path(f"/proc/{pid}/stat")).rpartition(") ")[2].startswith("Z")


def _reap(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
