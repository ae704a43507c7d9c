"""A trainer pod's log: one JSON object a line, or lines for people (`finetune run`). Prints nothing itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from finetune_contract import names
from finetune_trainer.logs import find_traceback, read_figures

Format = Literal["json", "text"]

_SEVERITIES: Final = ((logging.CRITICAL, "critical"), (logging.ERROR, "error"), (logging.WARNING, "warning"))


@dataclass
class Place:
    """What every line of this agent says of its place; filled in as it becomes known."""

    namespace: str | None = None
    job: str | None = None
    node: int | None = None
    attempt: int | None = None


@dataclass(frozen=True)
class Origin:
    """Which of the agent's children a line came from."""

    name: str
    """worker, prepare, publish, convert, launcher."""
    attempt: int | None = None
    rank: int | None = None


def find_format(environment: Mapping[str, str]) -> Format:
    """JSON, unless people read along."""
    return "text" if environment.get(names.ENV_LOG_FORMAT) == "text" else "json"


def make_formatter(wished: Format, place: Place) -> logging.Formatter:
    """The formatter of the agent's only handler."""
    return TextFormatter(place) if wished == "text" else JsonFormatter(place)


class JsonFormatter(logging.Formatter):
    """One object: where it came from first, then what it says, then figures."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        place, origin = self._place, find_origin(record)
        line: dict[str, Any] = {
            "time": format_moment(record.created),
            "severity": find_severity(record.levelno),
            "logger": record.name,
            "message": record.getMessage(),
            "namespace": place.namespace,
            "job": place.job,
            "attempt": place.attempt if origin is None or origin.attempt is None else origin.attempt,
            "node": place.node,
            "rank": origin.rank if origin else None,
        }
        if event := getattr(record, "event", ""):
            line["event"] = event
        # What a line says of itself is never hidden by a figure of the same name.
        line |= {name: value for name, value in read_figures(record).items() if name not in line}
        if trace := find_traceback(record):
            line["traceback"] = trace
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """A label and the words; a traceback in lines of its own."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        label = self._find_label(find_origin(record))
        return "\n".join(f"{label} {line}" for line in to_text(record))

    def _find_label(self, origin: Origin | None) -> str:
        if origin is None:
            return "[agent]"
        if origin.rank is None:
            return f"[{self._place.job} {origin.name}]"
        return f"[{self._place.job} attempt={origin.attempt} rank={origin.rank}]"


def to_text(record: logging.LogRecord) -> Iterator[str]:
    """The lines in which people read a record; what a library printed stays as it was."""
    words = record.getMessage()
    yield words if is_raw(record) else f"{record.levelname} {words}"
    yield from find_traceback(record).splitlines()


def find_origin(record: logging.LogRecord) -> Origin | None:
    """The child that a record came from; None for the agent's own."""
    origin: Origin | None = getattr(record, "origin", None)
    return origin


def is_raw(record: logging.LogRecord) -> bool:
    """Whether it is no record of a logger but a line that something printed."""
    return bool(getattr(record, "raw", False))


def find_severity(level: int) -> str:
    """As Cloud Logging and Loki know it."""
    return next((name for least, name in _SEVERITIES if level >= least), "info" if level >= logging.INFO else "debug")


def format_moment(moment: float) -> str:
    """RFC 3339, UTC, milliseconds."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
