"""What preparation says to the agent: JSON lines on stdout. Everything else goes to stderr."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, TextIO

from finetune_contract.progress import Failure, PreparationProgress
from finetune_trainer.results import PreparedPointer

SECONDS_BETWEEN = 0.5


class Speech:
    """Writes the lines; progress within a stage at most twice a second."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._stage = ""
        self._last = 0.0

    def progress(self, stage: str, done: int = 0, total: int = 0) -> None:
        """How far a stage is."""
        now = time.monotonic()
        if stage == self._stage and now - self._last < SECONDS_BETWEEN and done != total:
            return
        self._stage, self._last = stage, now
        self._say("progress", PreparationProgress(stage=stage, done=done, total=total).to_data())

    def follow(self, stage: str, total: int = 0) -> Callable[[int], None]:
        """A function that takes how much of the stage is done."""
        self.progress(stage, 0, total)
        return lambda done: self.progress(stage, done, total)

    def failure(self, failure: Failure) -> None:
        """Why preparation ends without a result."""
        self._say("failure", failure.to_data())

    def pointer(self, pointer: PreparedPointer) -> None:
        """Where the result lies."""
        self._say("pointer", pointer.to_data())

    def _say(self, kind: str, data: dict[str, Any]) -> None:
        self._stream.write(json.dumps({kind: data}, ensure_ascii=False) + "\n")
        self._stream.flush()
