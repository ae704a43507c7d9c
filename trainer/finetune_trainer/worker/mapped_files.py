"""Files that stay mapped into memory, so that writing one again is one copy into pages that are there already.

Meant for /dev/shm; on a disk the same code writes into the page cache. Space is reserved before it is touched: a full
file system is an OSError here, and never a bus error in the middle of a copy.
"""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path

import torch
from torch import Tensor

PAGE_BYTES = mmap.PAGESIZE


class MappedFile:
    """One file: a body that is written through memory, and a short tail behind it.

    Until `finish` a reader may see anything; whoever reads has to be told by other means that the file is complete.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()
        """Held while the file is written or touched: it may shrink in between, and then its pages are gone."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._view = torch.empty(0, dtype=torch.uint8)
        self._is_written = False

    def reserve(self, size: int) -> Tensor:
        """The first `size` bytes of the file as a tensor of bytes. Raises OSError where there is no room."""
        if size and not self._is_allocated(size):
            os.posix_fallocate(self._descriptor, 0, size)
        if len(self._view) < size:
            self._view = torch.frombuffer(mmap.mmap(self._descriptor, size), dtype=torch.uint8)
        return self._view[:size]

    def finish(self, size: int, tail: bytes = b"") -> None:
        """Put the tail behind the first `size` bytes; the file ends there."""
        os.pwrite(self._descriptor, tail, size)
        os.ftruncate(self._descriptor, size + len(tail))
        self._is_written = True
        if size + len(tail) < len(self._view):
            self._view = self._view[:size]

    def touch(self, size: int) -> None:
        """Meet every page once, so that the first copy does not have to; nothing happens once it was written.

        Raises OSError where there is no room.
        """
        with self.lock:
            if not self._is_written:
                int(self.reserve(size)[::PAGE_BYTES].sum())

    def _is_allocated(self, size: int) -> bool:
        status = os.fstat(self._descriptor)
        return status.st_size >= size and status.st_blocks * 512 >= size
