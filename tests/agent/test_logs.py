"""From a child's logger or print to one line of the pod's log, and to plain words for people."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.agent.child_log import ChildLog
from finetune_trainer.agent.launcher import _heard_by
from finetune_trainer.agent.log_format import JsonFormatter, Origin, Place, TextFormatter, find_format, make_formatter
from finetune_trainer.logs import SEPARATOR, Event, PipeFormatter, read_record, tell
from tests.ground.cache import REPOSITORY
from tests.waiting import wait_for

PLACE = Place(namespace="research", job="spam", node=1, attempt=4)
MOMENT = 1_790_000_000.25
WORKER = Origin("worker", attempt=3, rank=2)


class _Listener(logging.Handler):
    """Keeps what an agent would print."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


@pytest.fixture
def pod() -> Iterator[_Listener]:
    """The pod's log, as JSON."""
    yield from _listen(JsonFormatter(PLACE))


@pytest.fixture
def terminal() -> Iterator[_Listener]:
    """The same for people."""
    yield from _listen(TextFormatter(PLACE))


def _listen(formatter: logging.Formatter) -> Iterator[_Listener]:
    listener, root = _Listener(formatter), logging.getLogger()
    root.addHandler(listener)
    yield listener
    root.removeHandler(listener)


def _make_record(message: str, level: int = logging.INFO, **fields: Any) -> logging.LogRecord:
    record = logging.makeLogRecord(
        {"name": "finetune_trainer.worker.train", "levelno": level, "levelname": logging.getLevelName(level)}
    )
    record.msg, record.created = message, MOMENT
    vars(record).update(fields)
    return record


def _say(log: ChildLog, record: logging.LogRecord, step: int = 0) -> None:
    log.feed(f"{PipeFormatter(lambda: step).format(record)}\n".encode())


def _fail() -> logging.LogRecord:
    try:
        raise ZeroDivisionError("division by zero")
    except ZeroDivisionError:
        return _make_record("rank 2 ends", logging.ERROR, exc_info=sys.exc_info())


def test_a_workers_record_becomes_a_line_with_its_place_and_figures(pod: _Listener) -> None:
    log = ChildLog(WORKER)
    _say(log, _make_record("step 5/20: loss 0.5", **tell(Event.STEP, step=5, loss=0.5, eta_seconds=None)))
    assert pod.objects == [
        {
            "time": "2026-09-21T14:13:20.250Z",
            "severity": "info",
            "logger": "finetune_trainer.worker.train",
            "message": "step 5/20: loss 0.5",
            "namespace": "research",
            "job": "spam",
            "attempt": 3,
            "node": 1,
            "rank": 2,
            "event": "Step",
            "step": 5,
            "loss": 0.5,
        }
    ]


def test_a_line_of_the_agent_has_no_rank_and_the_attempt_that_it_follows(pod: _Listener) -> None:
    logging.getLogger().handle(_make_record("asked to stop"))
    (line,) = pod.objects
    assert (line["rank"], line["attempt"], line["node"]) == (None, 4, 1)


def test_a_worker_says_at_which_step_it_is_and_a_figure_hides_nothing(pod: _Listener) -> None:
    log = ChildLog(WORKER)
    _say(log, _make_record("slow", logging.WARNING), step=7)
    _say(log, _make_record("saved", **tell(Event.CHECKPOINT_SAVED, step=6, message="no", rank=9)), step=7)
    assert [(line["step"], line["message"], line["rank"]) for line in pod.objects] == [(7, "slow", 2), (6, "saved", 2)]


def test_a_traceback_is_a_field_in_the_pod_and_lines_for_people(pod: _Listener, terminal: _Listener) -> None:
    log = ChildLog(WORKER)
    _say(log, _fail())
    (line,) = pod.objects
    assert (line["message"], line["severity"]) == ("rank 2 ends", "error")
    assert line["traceback"].splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert log.last_lines == ("ERROR rank 2 ends", *line["traceback"].splitlines())
    assert terminal.lines == ["\n".join(f"[spam attempt=3 rank=2] {text}" for text in log.last_lines)]


def test_what_libraries_print_is_wrapped_as_it_is(pod: _Listener, terminal: _Listener) -> None:
    log = ChildLog(WORKER)
    log.feed(b'{"mine": 1}\nnode:12:34 [0] NCCL WARN no socket\n\x1b[31mTraceback (most recent call last)\x1b[0m:\n')
    shown = [(line["severity"], line["logger"], line["message"]) for line in pod.objects]
    assert shown == [
        ("info", "finetune_trainer.worker", '{"mine": 1}'),
        ("warning", "finetune_trainer.worker", "node:12:34 [0] NCCL WARN no socket"),
        ("error", "finetune_trainer.worker", "Traceback (most recent call last):"),
    ]
    assert terminal.lines[1] == "[spam attempt=3 rank=2] node:12:34 [0] NCCL WARN no socket"


def test_a_bar_shows_its_last_state_even_before_a_record(pod: _Listener) -> None:
    log = ChildLog(WORKER)
    log.feed(b"\rloading 10%\rloading 50")
    log.feed(b"%\rloading 100%\n\rtokenizing 3%")
    _say(log, _make_record("resumed"))
    assert [line["message"] for line in pod.objects] == ["loading 100%", "tokenizing 3%", "resumed"]


def test_a_line_that_only_looks_like_a_record_and_one_without_an_end_are_told_as_they_are(pod: _Listener) -> None:
    log = ChildLog(WORKER)
    log.feed(f"{SEPARATOR}not json\nFatal Python error: Seg".encode())
    log.close()
    assert [(line["message"], line["severity"]) for line in pod.objects] == [
        ("not json", "info"),
        ("Fatal Python error: Seg", "error"),
    ]


def test_a_ranks_own_file_holds_plain_words(pod: _Listener, tmp_path: Path) -> None:
    path = tmp_path / "logs" / "rank-2.log"
    log = ChildLog(WORKER, path)
    log.feed(b"printed\n")
    _say(log, _make_record("step 1/2", **tell(Event.STEP, step=1)))
    log.close()
    assert path.read_text() == "printed\nINFO step 1/2\n"
    assert len(pod.lines) == 2


def test_pods_print_json_and_a_local_run_text() -> None:
    chosen = [find_format(environment) for environment in ({}, {"FINETUNE_LOG_FORMAT": "text"})]
    assert chosen == ["json", "text"]
    assert [type(make_formatter(wished, Place())) for wished in chosen] == [JsonFormatter, TextFormatter]


def test_a_record_survives_the_pipe() -> None:
    sent = _make_record("%d rows", logging.WARNING, args=(3,), **tell(Event.WARNING, why="x"))
    received = read_record(PipeFormatter().format(sent))
    assert received is not None
    told = ("name", "levelno", "levelname", "created", "event", "figures")
    assert [getattr(received, name) for name in told] == [getattr(sent, name) for name in told]
    assert received.getMessage() == "3 rows"


@pytest.mark.parametrize("story", [True, False])
def test_a_child_leaves_nothing_for_libraries_to_print_themselves(story: bool) -> None:
    """Their handlers, Python's warnings, and exceptions in threads all become records."""
    program = f"""
import logging, sys, threading, warnings
library = logging.getLogger("DeepSpeed"); library.propagate = False
library.addHandler(logging.StreamHandler(sys.stdout))
from finetune_trainer.logs import speak_to_agent
speak_to_agent(sys.stdout, story={story})
logging.getLogger("finetune_trainer.x").info("story")
logging.getLogger("finetune_trainer.x").warning("ours")
library.info("chatter")
library.warning("theirs")
library.error("wrong")
warnings.warn("old name", FutureWarning)
thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    )
    records = [read_record(line) for line in ran.stdout.rstrip("\n").split("\n")]
    said = [record.getMessage().partition(" (")[0] for record in records if record is not None]
    wrong = ["wrong", "ZeroDivisionError: division by zero"]
    everything = ["story", "ours", "theirs", "wrong", "FutureWarning: old name", wrong[-1]]
    assert (len(records), said) == (len(said), everything if story else ["ours", *wrong])
    assert ran.stderr == ""


def test_what_the_launcher_prints_at_its_imports_is_heard(pod: _Listener) -> None:
    with _heard_by(ChildLog(Origin("launcher"))):
        subprocess.run([sys.executable, "-c", "import os; os.write(1, b'out\\n'); os.write(2, b'err\\n')"], check=True)
    wait_for(lambda: len(pod.lines) == 2, "the launcher's words", seconds=30)
    shown = [(line["logger"], line["message"], line["rank"]) for line in pod.objects]
    assert shown == [("finetune_trainer.launcher", "out", None), ("finetune_trainer.launcher", "err", None)]


def test_the_documentation_lists_every_event() -> None:
    page = (REPOSITORY / "docs" / "reference" / "logs.md").read_text()
    listed = [line.split("`")[1] for line in page.partition("## Events")[2].splitlines() if line.startswith("| `")]
    assert listed == [event.value for event in Event]
