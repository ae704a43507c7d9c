"""What one child prints: to its file, to the agent's own log as records with their origin, and the last lines kept.

A line is a record of our logger (logs.py) or whatever a library, NCCL or a dying interpreter has printed.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from pathlib import Path
from typing import Final

from finetune_trainer.agent.log_format import Origin, to_text
from finetune_trainer.logs import SEPARATOR, read_record

LAST_LINES = 20
LONGEST_LINE = 4000
"""Characters of a kept line; the file has all of it."""

_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_ERROR: Final = re.compile(
    r"\b(?:ERROR|FATAL|CRITICAL|Fatal Python error)\b|^Traceback \(most recent|^[\w.]*(?:Error|Exception)\b|^\[E\d{4} "
)
_WARNING: Final = re.compile(r"\b(?:WARN|WARNING|\w*Warning:)|^\[W\d{4} ")
_LOOKED_AT: Final = 200
"""Characters of a printed line in which words tell how bad it is."""


class ChildLog:
    """Takes bytes as they come and deals with whole lines."""

    def __init__(self, origin: Origin, path: Path | None = None) -> None:
        self._origin = origin
        self._file = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")
        self._rest = b""
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._logger = logging.getLogger(f"finetune_trainer.{origin.name}")

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The newest lines, in plain words."""
        return tuple(self._last)

    def feed(self, data: bytes) -> None:
        """Take more output."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line)
        # Of a bar that is drawn again and again only the last state is kept.
        self._rest = self._rest[self._rest.rfind(b"\r", 0, len(self._rest) - 1) + 1 :]

    def close(self) -> None:
        """Deal with an unfinished last line and close the file."""
        if self._rest:
            self._take(self._rest)
            self._rest = b""
        if self._file is not None:
            self._file.close()

    def _take(self, line: bytes) -> None:
        # A bar without an end may stand before a record; and of a bar that was drawn again the last state counts.
        printed, separator, said = line.decode(errors="replace").partition(SEPARATOR)
        printed = _COLOURS.sub("", printed.rstrip("\r").rpartition("\r")[2]).rstrip()
        if printed:
            self._tell(self._wrap(printed))
        if separator:
            self._tell(read_record(said) or self._wrap(said))

    def _tell(self, record: logging.LogRecord) -> None:
        record.origin = self._origin
        for text in to_text(record):
            self._last.append(text[:LONGEST_LINE])
            if self._file is not None:
                self._file.write(f"{text}\n")
        if self._file is not None:
            self._file.flush()
        self._logger.handle(record)

    def _wrap(self, printed: str) -> logging.LogRecord:
        level = guess_level(printed)
        record = logging.LogRecord(self._logger.name, level, "", 0, printed, None, None)
        record.raw = True
        return record


def guess_level(printed: str) -> int:
    """How bad a line sounds that no logger has written. Pure."""
    looked_at = printed[:_LOOKED_AT]
    if _ERROR.search(looked_at):
        return logging.ERROR
    return logging.WARNING if _WARNING.search(looked_at) else logging.INFO
