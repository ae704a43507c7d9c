"""A lock beside a file, so that a folder has the compare-and-swap that buckets have. flock also works over NFS."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_SUFFIX = ".lock~"


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold the lock of one file; waits for another holder. The lock file stays: removing it would split the lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}{LOCK_SUFFIX}").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
