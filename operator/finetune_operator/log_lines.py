"""The operator's log: one JSON object a line, in the words of trainer pods' lines, so that one query finds both.

At INFO a line is a change that somebody may look for; what moves all the time is DEBUG.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from finetune_contract.status import FineTuneJobStatus
from finetune_operator.plan.attempts import find_last_number
from finetune_operator.plan.events import Event
from finetune_operator.snapshot import Key

_STANDARD: Final = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
_FOREIGN: Final = frozenset({"k8s_ref", "k8s_skip", "settings"})
"""What kopf hangs on its records."""
_HIDDEN: Final = _STANDARD | _FOREIGN
_SEVERITIES: Final = ((logging.CRITICAL, "critical"), (logging.ERROR, "error"), (logging.WARNING, "warning"))
_QUIET_EVENTS: Final = frozenset({"CheckpointVerified"})
"""As many as a job has checkpoints; its own pods tell them."""


class JsonLines(logging.Formatter):
    """What every line has first, then what the line itself knows."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "severity": _find_severity(record.levelno),
            "logger": record.name,
            "message": record.getMessage(),
            **_find_job(record),
        }
        line |= {name: value for name, value in vars(record).items() if name not in line and name not in _HIDDEN}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def name_job(key: Key, status: FineTuneJobStatus | None = None) -> dict[str, Any]:
    """Which job a line is about, and which attempt, where there has been one."""
    number = find_last_number(status) if status is not None else 0
    return {"namespace": key.namespace, "job": key.name, **({"attempt": number} if number else {})}


def name_held_job(key: Key, body: Mapping[str, Any]) -> dict[str, Any]:
    """As `name_job`, of a job whose status may be in nobody's words."""
    try:
        number = body["status"]["attempts"][-1]["number"]
    except (KeyError, IndexError, TypeError):
        return name_job(key)
    return {**name_job(key), "attempt": number}


def tell_changes(
    log: logging.Logger, key: Key, before: FineTuneJobStatus, after: FineTuneJobStatus, events: tuple[Event, ...]
) -> None:
    """The lines of a decision that was carried out: its events, and the phase where that is another one."""
    job = name_job(key, after)
    for event in events:
        level = logging.DEBUG if event.reason in _QUIET_EVENTS else logging.INFO
        log.log(logging.WARNING if event.type == "Warning" else level, event.note, extra={**job, "event": event.reason})
    if after.phase != before.phase:
        log.info("%s, was %s", after.phase, before.phase, extra={**job, "phase": after.phase})


def _find_job(record: logging.LogRecord) -> dict[str, Any]:
    """Of kopf's own lines about a job; ours name it themselves."""
    reference = getattr(record, "k8s_ref", None) or {}
    named = {"namespace": reference.get("namespace"), "job": reference.get("name")}
    return {name: value for name, value in named.items() if value and not hasattr(record, name)}


def _find_severity(level: int) -> str:
    return next((name for least, name in _SEVERITIES if level >= least), "info" if level >= logging.INFO else "debug")
