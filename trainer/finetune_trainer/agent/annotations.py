"""The pod's annotations as files: the attempt to follow, the wish to stop, the leave to finish.

In a pod they are a downwardAPI volume, whose files change by a symlink's swap; in a local run `finetune run`
writes them.
An annotation that is absent is an empty file or none.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from finetune_contract import names
from finetune_contract.attempt import Attempt

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Annotations:
    """What the operator wishes now."""

    attempt: Attempt | None = None
    stop: bool = False
    finish: bool = False


def read_annotations(folder: Path, last: Annotations) -> Annotations:
    """Read the files again; an attempt that cannot be read leaves the last one standing."""
    return Annotations(
        attempt=_read_attempt(folder / names.FILE_ATTEMPT, last.attempt),
        stop=bool(_read_text(folder / names.FILE_STOP)),
        finish=bool(_read_text(folder / names.FILE_FINISH)),
    )


def _read_attempt(path: Path, last: Attempt | None) -> Attempt | None:
    text = _read_text(path)
    if not text:
        return last
    try:
        return Attempt.from_json(text)
    except ValueError as error:
        logger.debug("%s holds no attempt: %s", path, error)
        return last


def _read_text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
