"""The agent's folder in shared memory: where its workers' snapshots outlive them.

A pod has a /dev/shm of its own. On a machine that runs several agents (local runs) each has a folder, which an agent
that was killed leaves behind: the next one removes what nobody holds.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from pathlib import Path
from typing import Final

from finetune_trainer.agent.settings import Settings

ROOT: Final = Path("/dev/shm/finetune")
FILE_OWNER: Final = "owner"
RESERVED_BYTES: Final = 64 * 1024**2
"""A worker process's share that is left to torch and NCCL."""


class SharedMemory:
    """The folder, locked as long as this process lives."""

    def __init__(self, folder: Path | None, limit: int) -> None:
        """`limit`: bytes that the pod may have in shared memory; without a folder there is none."""
        self.folder = folder
        self._limit = limit

    def find_room(self, workers: int) -> int:
        """Bytes that each of so many workers may fill, what lies there already included."""
        if self.folder is None:
            return 0
        space = os.statvfs(self.folder)
        own = sum(file.stat().st_blocks * 512 for file in self.folder.rglob("*") if file.is_file())
        return max(0, min(self._limit, space.f_bavail * space.f_frsize + own) // workers - RESERVED_BYTES)

    def remove(self) -> None:
        """Give everything back."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def claim_memory(settings: Settings, root: Path = ROOT) -> SharedMemory:
    """Take this agent's folder, and remove the folders of agents that are gone. Without shared memory: none."""
    limit = settings.run.resolved.shared_memory_bytes
    if limit <= 0 or not root.parent.is_dir():
        return SharedMemory(None, 0)
    try:
        root.mkdir(mode=0o700, exist_ok=True)
        for abandoned in [folder for folder in root.iterdir() if _lock(folder) is not None]:
            shutil.rmtree(abandoned, ignore_errors=True)
        folder = root / hashlib.sha256(str(settings.work_dir).encode()).hexdigest()[:16]
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / FILE_OWNER).touch()
        return SharedMemory(folder if _lock(folder) is not None else None, limit)
    except OSError:
        return SharedMemory(None, 0)


def _lock(folder: Path) -> int | None:
    """A descriptor that locks the folder until this process ends; None where another process has it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder / FILE_OWNER, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor
    return None
