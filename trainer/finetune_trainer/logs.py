"""What the trainer's processes say, from the logger to the agent, which alone prints it (agent/log_format.py).

A child writes each record as one line of JSON behind an ASCII record separator, as RFC 7464 has it, into the pipe that
the agent reads. What libraries and native code print comes between, as it is, and can never be taken for a record.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import TracebackType
from typing import Any, Final, TextIO

SEPARATOR: Final = "\x1e"
OURS: Final = "finetune_trainer"


class Event(StrEnum):
    """What a line tells of, for programs. Frozen: docs/reference/logs.md lists them, and a test compares."""

    AGENT_STARTED = "AgentStarted"
    ATTEMPT_STARTED = "AttemptStarted"
    PREPARING = "Preparing"
    DATA_PREPARED = "DataPrepared"
    WORKERS_STARTING = "WorkersStarting"
    TRAINING_STARTED = "TrainingStarted"
    RESUMED = "Resumed"
    STEP = "Step"
    EVALUATING = "Evaluating"
    EVALUATED = "Evaluated"
    CHECKPOINT_SAVED = "CheckpointSaved"
    CHECKPOINT_VERIFIED = "CheckpointVerified"
    STRAGGLING = "Straggling"
    STOPPED_EARLY = "StoppedEarly"
    WARNING = "Warning"
    WARNING_OVER = "WarningOver"
    STOP_REQUESTED = "StopRequested"
    ATTEMPT_STOPPED = "AttemptStopped"
    ATTEMPT_FAILED = "AttemptFailed"
    ATTEMPT_GIVEN_UP = "AttemptGivenUp"
    EXPORTED = "Exported"
    JUDGED = "Judged"
    GATE_JUDGED = "GateJudged"
    PUBLISHED = "Published"
    FINISHED = "Finished"


def tell(event: Event, **figures: Any) -> dict[str, Any]:
    """For `extra` of a logger's call: the event, and figures that become fields of the line."""
    return {"event": event.value, "figures": {name: value for name, value in figures.items() if _is_known(value)}}


def _is_known(value: object) -> bool:
    # JSON has no word for what is not a number.
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


class PipeFormatter(logging.Formatter):
    """A record as a line for the agent."""

    def __init__(self, find_step: Callable[[], int] = int) -> None:
        """`find_step`: optimizer step that the process works on; 0 while there is none."""
        super().__init__()
        self._find_step = find_step

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        figures = getattr(record, "figures", {})
        step = self._find_step()
        said = {
            "created": record.created,
            "name": record.name,
            "levelno": record.levelno,
            "msg": record.getMessage().strip(),
            "event": getattr(record, "event", ""),
            "figures": {"step": step} | figures if step else figures,
            "exc_text": find_traceback(record),
        }
        return SEPARATOR + json.dumps(said, ensure_ascii=False, default=str)


def find_traceback(record: logging.LogRecord) -> str:
    """The traceback that a record carries; empty without one."""
    if record.exc_info and record.exc_info[0] is not None and not record.exc_text:
        record.exc_text = logging.Formatter().formatException(record.exc_info)
    return record.exc_text or ""


def read_record(line: str) -> logging.LogRecord | None:
    """The record of a line that begins with the separator; None where it is none."""
    try:
        said = json.loads(line.removeprefix(SEPARATOR))
        said["levelname"] = logging.getLevelName(int(said["levelno"]))
        return logging.makeLogRecord(said)
    except (ValueError, KeyError, TypeError):
        return None


def speak_to_agent(stream: TextIO, *, story: bool = True, find_step: Callable[[], int] = int) -> None:
    """From now on everything that this process logs goes to the agent; without `story` only what is wrong."""
    set_up(stream, PipeFormatter(find_step), story=story)


def set_up(stream: TextIO, formatter: logging.Formatter, *, story: bool = True) -> None:
    """Let one handler have all loggers, Python's warnings, and exceptions that nobody has caught."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    handler.addFilter(lambda record: is_told(record.name, record.levelno, story=story))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(OURS).setLevel(logging.INFO)
    take_over_handlers()
    logging.captureWarnings(True)
    # One line each: the source line below a warning says nothing in a log.
    warnings.formatwarning = lambda message, category, filename, lineno, line=None: (
        f"{category.__name__}: {message} ({filename}:{lineno})"
    )
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda caught: _log_uncaught(
        caught.exc_type, caught.exc_value or caught.exc_type(), caught.exc_traceback
    )


def is_told(name: str, level: int, *, story: bool) -> bool:
    """Whether a record is worth a line. Warnings of libraries are the same on every rank: one tells them."""
    if name.partition(".")[0] == OURS:
        return level >= (logging.INFO if story else logging.WARNING)
    return level >= (logging.WARNING if story else logging.ERROR)


def take_over_handlers() -> None:
    """Libraries that print their records themselves (DeepSpeed, transformers, torch) leave that to the root."""
    for logger in list(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger) and any(map(_prints, logger.handlers)):
            logger.handlers[:] = [handler for handler in logger.handlers if not _prints(handler)]
            logger.propagate = True


def _prints(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger(OURS).critical("%s: %s", kind.__name__, error, exc_info=(kind, error, trace))


def read_figures(record: logging.LogRecord) -> Mapping[str, Any]:
    """The figures that a record carries."""
    figures: Mapping[str, Any] = getattr(record, "figures", {})
    return figures
