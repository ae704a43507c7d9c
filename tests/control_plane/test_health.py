"""What a probe says: one sentence for each wrong state, and nothing where all is well."""

from __future__ import annotations

import asyncio
import time

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from finetune_operator import heartbeat as heartbeat_module
from finetune_operator.health import LATE_SECONDS, SILENT_SECONDS, STUCK_SECONDS, Source, find_illness, find_unready
from finetune_operator.heartbeat import Heartbeat
from finetune_operator.process_series import ProcessSeries
from finetune_operator.servers import answer_check

WELL = Source("pods", 3, True, 1.0)


def test_complete_caches_are_ready() -> None:
    assert find_unready(None, [WELL, WELL]) is None


@pytest.mark.parametrize(
    ("missing", "source", "sentence"),
    [
        ("no right", WELL, "no right"),
        (None, Source("pods", 0, False, 1.0), "pods are not listed yet"),
        (None, Source("pods", 0, False, 1.0, "no answer"), "pods are not listed yet: no answer"),
    ],
)
def test_what_is_missing_for_work_is_said(missing: str | None, source: Source, sentence: str) -> None:
    assert find_unready(missing, [WELL, source]) == sentence


def test_what_moves_is_alive() -> None:
    sources = [WELL, Source("configmaps", 0, True, SILENT_SECONDS), Source("late", 0, False, 10 * SILENT_SECONDS)]
    assert find_illness(sources, waiting_seconds=STUCK_SECONDS, late_seconds=LATE_SECONDS) is None


@pytest.mark.parametrize(
    ("source", "waiting", "late", "sentence"),
    [
        (WELL, 0.0, 31.0, "the event loop has not run what was due for 31 s"),
        (WELL, 601.0, 0.0, "a job has waited for 601 s to be looked at"),
        (Source("pods", 3, True, 901.0), 0.0, 0.0, "nothing was heard of pods for 901 s"),
        (Source("pods", 3, True, 901.0, "no right"), 0.0, 0.0, "nothing was heard of pods for 901 s: no right"),
    ],
)
def test_what_stands_still_is_said(source: Source, waiting: float, late: float, sentence: str) -> None:
    assert find_illness([WELL, source], waiting_seconds=waiting, late_seconds=late) == sentence


async def test_heartbeat_remembers_how_late_the_loop_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat_module, "INTERVAL_SECONDS", 0.01)
    heartbeat = Heartbeat()
    beating = asyncio.create_task(heartbeat.run())
    await asyncio.sleep(0)
    time.sleep(0.2)  # the loop is held up
    assert heartbeat.overdue_seconds >= 0.15
    while heartbeat.overdue_seconds > 0.0:
        await asyncio.sleep(0.001)
    assert heartbeat.worst_seconds >= 0.15
    beating.cancel()


def test_probe_logs_each_change_of_mind_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    answers = iter([None, "a job has waited for 601 s", "a job has waited for 602 s", "another thing", None, None])
    ask = answer_check("alive", lambda: next(answers))
    assert [ask()[0] for _ in range(6)] == [200, 503, 503, 503, 200, 200]
    assert [record.message for record in caplog.records] == [
        "not alive: a job has waited for 601 s",
        "not alive: another thing",
        "alive again",
    ]


def test_caches_of_several_namespaces_count_as_one() -> None:
    registry = CollectorRegistry()
    sources = [Source("pods", 3, True, 1.0), Source("pods", 4, True, 7.0), Source("finetunejobs", 2, True, 5.0)]
    registry.register(ProcessSeries(lambda: sources, lambda: 0.25))
    text = generate_latest(registry).decode()
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        'finetune_informer_objects{resource="pods"} 7.0',
        'finetune_informer_objects{resource="finetunejobs"} 2.0',
        'finetune_informer_age_seconds{resource="pods"} 7.0',
        'finetune_informer_age_seconds{resource="finetunejobs"} 5.0',
        "finetune_event_loop_lag_seconds 0.25",
    ]
