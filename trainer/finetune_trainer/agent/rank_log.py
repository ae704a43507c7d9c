"""One worker's output: to its file, to the agent's own output with job, attempt and rank, and the last lines kept."""

from __future__ import annotations

import sys
from collections import deque
from pathlib import Path

LAST_LINES = 20
LONGEST_LINE = 4000
"""Characters of a kept line; the file has all of it."""


class RankLog:
    """Takes bytes as they come and deals with whole lines."""

    def __init__(self, path: Path, prefix: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._prefix = prefix
        self._rest = b""
        self._last: deque[str] = deque(maxlen=LAST_LINES)

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The newest lines."""
        return tuple(self._last)

    def feed(self, data: bytes) -> None:
        """Take more output."""
        self._file.write(data)
        self._file.flush()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._tell(line)

    def close(self) -> None:
        """Deal with an unfinished last line and close the file."""
        if self._rest:
            self._tell(self._rest)
            self._rest = b""
        self._file.close()

    def _tell(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        if text:
            self._last.append(text[:LONGEST_LINE])
        sys.stdout.write(f"{self._prefix} {text}\n")
        sys.stdout.flush()
