"""The pod's annotations as files: the attempt to follow, the wish to stop, the leave to finish.

In a pod they are a downwardAPI volume, whose files change by a symlink's swap; in a local run `finetune run`
writes them.
An annotation that is absent is an empty file or none.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from finetune_contract import names
from finetune_contract.attempt import Attempt, StopRequest
from finetune_contract.document import Document

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
Wish = TypeVar("Wish", bound=Document)


@dataclass(frozen=True)
class Annotations:
    """What the operator wishes now."""

    attempt: Attempt | None = None
    stop: StopRequest | None = None
    finish: bool = False


def read_annotations(folder: Path, last: Annotations) -> Annotations:
    """Read the files again; an attempt or a stop that cannot be read leaves the last one standing."""
    return Annotations(
        attempt=_read_document(folder / names.FILE_ATTEMPT, Attempt, last.attempt) or last.attempt,
        stop=_read_document(folder / names.FILE_STOP, StopRequest, last.stop),
        finish=bool(_read_text(folder / names.FILE_FINISH)),
    )


def _read_document(path: Path, kind: type[Wish], last: Wish | None) -> Wish | None:
    """The document; None where the annotation is absent."""
    text = _read_text(path)
    if not text:
        return None
    try:
        return kind.from_json(text)
    except ValueError as error:
        logger.debug("%s holds no %s: %s", path, kind.__name__, error)
        return last


def _read_text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
