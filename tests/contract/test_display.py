"""The words of `kubectl get ftj`."""

from __future__ import annotations

import pytest

from finetune_contract.display import DisplayStatus, describe_duration, describe_steps
from finetune_contract.names import CONDITION_ACCEPTED, CONDITION_FAILED, CONDITION_RUNNING
from finetune_contract.status import FineTuneJobStatus, ProgressStatus
from tests.contract.make import make_condition, make_status


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0s"), (0, "0s"), (5.4, "5s"), (60, "1m"), (200, "3m20s"), (3600, "1h"), (7500, "2h5m"), (3661, "1h1m"),
     (86_400, "1d"), (86_460, "1d"), (270_000, "3d3h")],
)  # fmt: skip
def test_durations_read_like_ages(seconds: float, text: str) -> None:
    assert describe_duration(seconds) == text


def test_steps_without_a_total_stand_alone() -> None:
    assert describe_steps(12, 0) == "12"


def test_a_new_job_shows_nothing() -> None:
    assert FineTuneJobStatus().display == DisplayStatus()


def test_a_running_job_shows_rounded_figures() -> None:
    assert make_status().display == DisplayStatus(
        step="42/100", progress="42%", eta="3m20s", loss="0.1235", best="f1 0.9412", goodput="90%", reason="Training"
    )


def test_a_finished_job_has_no_time_left() -> None:
    assert make_status(completion_time="2026-01-01T01:00:00Z").display.eta is None


def test_almost_done_is_not_done() -> None:
    assert make_status(progress=ProgressStatus(total_steps=1000, percent=99.99)).display.progress == "99%"


def test_the_reason_is_that_of_the_condition_that_explains_most() -> None:
    accepted = make_condition(CONDITION_ACCEPTED, "True", "Accepted")
    running = make_condition(CONDITION_RUNNING, "False", "PodsStarting")
    failed = make_condition(CONDITION_FAILED, "True", "GateFailed")
    assert make_status(conditions=(accepted,)).display.reason == "Accepted"
    assert make_status(conditions=(accepted, running)).display.reason == "PodsStarting"
    assert make_status(conditions=(accepted, running, failed)).display.reason == "GateFailed"


def test_what_is_shown_is_written_and_never_read() -> None:
    data = make_status().to_data()
    assert data["display"]["eta"] == "3m20s"
    data["display"] = {"eta": "never", "unknown": 1}
    assert FineTuneJobStatus.from_data(data) == make_status()
    assert FineTuneJobStatus.from_json(make_status().to_json()) == make_status()
