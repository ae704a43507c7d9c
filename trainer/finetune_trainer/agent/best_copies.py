"""Copies of the best weights on this node's disk: a snapshot's slot is written again, and they are needed at the end.

W/best/<checkpoint>/weights/, as resume.py brings them from the store.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from finetune_trainer.agent.held import Snapshot
from finetune_trainer.agent.resume import FILE_COMPLETE

FOLDER: Final = "best"
WEIGHTS: Final = "weights"
KEPT: Final = 2
"""The best one, and the one before, should the newest checkpoint turn out to be damaged."""


def keep_best(snapshot: Snapshot, work_dir: Path) -> None:
    """Copy the weights of a snapshot that is the best so far; a copy that has its name is complete."""
    files = [name for name in snapshot.all_files if name.startswith(f"{WEIGHTS}/")]
    target = work_dir / FOLDER / snapshot.name
    if not (snapshot.best and files) or target.exists():
        return
    draft = work_dir / FOLDER / f".{snapshot.name}"
    shutil.rmtree(draft, ignore_errors=True)
    for name in files:
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(snapshot.folder / name, draft / name)
    draft.rename(target)
    copies = sorted((folder for folder in target.parent.glob("step-*")), key=lambda folder: folder.stat().st_mtime)
    for old in copies[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def mark_verified(snapshot: Snapshot, digest: str, work_dir: Path) -> None:
    """Note the manifest's digest beside a copy: it need not be brought from the store again."""
    if (target := work_dir / FOLDER / snapshot.name).is_dir():
        (target / FILE_COMPLETE).write_text(digest)
