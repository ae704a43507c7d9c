"""Where everything expensive lives between runs: outside the repository, so that a fresh clone starts warm."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def cache_folder(name: str) -> Path:
    """Return (and make) one folder of the cache; ``FINETUNE_CACHE`` moves the whole cache."""
    root = Path(os.environ.get("FINETUNE_CACHE") or Path.home() / ".cache" / "finetune-operator")
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def digest_of(paths: Iterable[Path], *extra: str) -> str:
    """Name a set of inputs by content: relative name and bytes of every file below ``paths``, and ``extra`` words."""
    digest = hashlib.sha256()
    for word in extra:
        digest.update(word.encode() + b"\0")
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(file.relative_to(path.parent).as_posix().encode() + b"\0")
                digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
