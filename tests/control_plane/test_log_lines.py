"""What the operator's log looks like, and what it is quiet about."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from finetune_contract.status import FineTuneJobStatus
from finetune_operator.handlers import configure_logging
from finetune_operator.log_lines import JsonLines, name_held_job, name_job, tell_changes
from finetune_operator.plan.events import checkpoint_verified, derive_events
from finetune_operator.snapshot import Key
from finetune_trainer.agent.log_format import JsonFormatter, Place
from tests.control_plane.make import make_closed, make_record

KEY = Key("ml", "spam")


class Log:
    """The process's log, as JSON lines."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream
        self.logger = logging.getLogger("finetune_operator.test")

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]

    def read_words(self) -> list[tuple[str, str]]:
        return [(line["severity"], line["message"]) for line in self.read()]


@pytest.fixture
def log() -> Iterator[Log]:
    """Return the log at the level that an installation has."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    root.handlers[:] = []
    configure_logging("INFO")
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    stream = io.StringIO()
    handler.setStream(stream)
    yield Log(stream)
    root.handlers[:] = before[0]
    root.setLevel(before[1])


def test_line_names_time_severity_job_and_attempt_as_trainer_pods_do(log: Log) -> None:
    status = FineTuneJobStatus(attempts=(make_closed(3),))
    log.logger.warning("object %s", "refused", extra={**name_job(KEY, status), "error": "quota"})
    (line,) = log.read()
    assert line.pop("time").endswith("Z")
    assert line == {
        "severity": "warning",
        "logger": "finetune_operator.test",
        "message": "object refused",
        "namespace": "ml",
        "job": "spam",
        "attempt": 3,
        "error": "quota",
    }


def test_job_without_an_attempt_names_none() -> None:
    assert name_job(KEY, FineTuneJobStatus()) == {"namespace": "ml", "job": "spam"}


@pytest.mark.parametrize("body", [{}, {"status": {}}, {"status": {"attempts": []}}, {"status": {"attempts": 7}}])
def test_attempt_is_named_only_where_there_is_one(body: dict[str, Any]) -> None:
    assert name_held_job(KEY, body) == {"namespace": "ml", "job": "spam"}
    known = {"status": {"attempts": [{"number": 1}, {"number": 2}]}}
    assert name_held_job(KEY, known) == {"namespace": "ml", "job": "spam", "attempt": 2}


def test_defect_stands_in_one_line_with_its_traceback(log: Log) -> None:
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        log.logger.exception("reconciliation failed", extra=name_job(KEY))
    (line,) = log.read()
    assert (line["severity"], line["message"], line["job"]) == ("error", "reconciliation failed", "spam")
    assert line["traceback"].splitlines()[-1] == "RuntimeError: boom"


def test_kopfs_lines_name_the_job_in_the_same_words(log: Log) -> None:
    reference = {"kind": "FineTuneJob", "name": "spam", "namespace": "ml"}
    log.logger.warning("odd", extra={"k8s_ref": reference, "k8s_skip": True, "settings": object()})
    (line,) = log.read()
    assert {name: line[name] for name in line if name not in ("time", "logger")} == {
        "severity": "warning",
        "message": "odd",
        "namespace": "ml",
        "job": "spam",
    }


def test_attempt_that_failed_and_the_phase_are_told_once(log: Log) -> None:
    before = FineTuneJobStatus(phase="Running", attempts=(make_closed(end_time=None, result="Running", failure=None),))
    after = FineTuneJobStatus(phase="Starting", attempts=(make_closed(),))
    tell_changes(log.logger, KEY, before, after, derive_events(before, after))
    failed, phase = log.read()
    assert (failed["severity"], failed["event"], failed["attempt"]) == ("warning", "AttemptFailed", 1)
    assert failed["message"].startswith("Attempt 1 failed (Code): worker 1 ended")
    assert (phase["severity"], phase["message"], phase["phase"]) == ("info", "Starting, was Running", "Starting")


def test_what_moves_all_the_time_is_told_to_nobody(log: Log) -> None:
    status = FineTuneJobStatus(phase="Running")
    tell_changes(log.logger, KEY, status, status, (checkpoint_verified(make_record()),))
    assert log.read() == []


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL])
def test_operator_and_trainer_pods_write_the_same_line(level: int) -> None:
    """So that one query finds the lines of both. A trainer's line has its place besides: node and rank."""
    record = logging.LogRecord("finetune", level, "file.py", 1, "word %d", (1,), None)
    trainers = json.loads(JsonFormatter(Place("ml", "spam", 0, 2)).format(record))
    record.__dict__.update(name_job(KEY, FineTuneJobStatus(attempts=(make_closed(2),))))
    assert json.loads(JsonLines().format(record)) == {
        name: value for name, value in trainers.items() if name not in ("node", "rank")
    }
