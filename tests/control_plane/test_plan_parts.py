"""The small parts of plan/, each by itself."""

from __future__ import annotations

import pytest

from finetune_contract import names
from finetune_contract.progress import Straggler
from finetune_contract.status import AttemptStatus, BestCheckpoint, FineTuneJobStatus, ProgressStatus
from finetune_operator.plan.announcements import make_attempt
from finetune_operator.plan.checkpoints import LIMIT, fold_checkpoints
from finetune_operator.plan.conditions import find_condition, is_true, set_condition
from finetune_operator.plan.events import Event, derive_events
from finetune_operator.plan.merge_patch import make_merge_patch
from finetune_operator.plan.numbers import wait_for_numbers
from finetune_operator.plan.resolve import resolve
from finetune_operator.plan.times import format_time, parse_time
from tests.control_plane.make import (
    NOW,
    make_accepted_job,
    make_closed,
    make_progress,
    make_record,
    make_running_pod,
)

RESOLVED = resolve(make_accepted_job())


def test_times_are_written_in_whole_seconds_and_read_back() -> None:
    assert format_time(NOW + 0.9) == "2027-01-15T08:00:00Z"
    assert parse_time(format_time(NOW + 0.9)) == NOW


def test_transition_time_moves_only_when_the_status_turns() -> None:
    status = set_condition(FineTuneJobStatus(), names.CONDITION_RUNNING, "False", "A", "a", now=NOW)
    status = set_condition(status, names.CONDITION_RUNNING, "False", "B", "b", now=NOW + 10)
    condition = find_condition(status, names.CONDITION_RUNNING)
    assert condition is not None
    assert (condition.reason, condition.last_transition_time) == ("B", format_time(NOW))
    status = set_condition(status, names.CONDITION_RUNNING, "True", "C", "c", now=NOW + 20)
    condition = find_condition(status, names.CONDITION_RUNNING)
    assert condition is not None
    assert condition.last_transition_time == format_time(NOW + 20)


def test_conditions_stand_in_the_order_of_a_jobs_life() -> None:
    status = set_condition(FineTuneJobStatus(), names.CONDITION_FAILED, "True", "A", "a", now=NOW)
    status = set_condition(status, names.CONDITION_ACCEPTED, "True", "A", "a", now=NOW)
    assert [condition.type for condition in status.conditions] == ["Accepted", "Failed"]
    assert not is_true(status, names.CONDITION_RUNNING)


def test_long_message_is_cut() -> None:
    status = set_condition(FineTuneJobStatus(), names.CONDITION_FAILED, "True", "A", "x" * 9000, now=NOW)
    assert len(status.conditions[0].message) == 4096


def test_ledger_that_was_not_read_yet_keeps_the_trusted_digests() -> None:
    status = FineTuneJobStatus(checkpoints=(make_record(),))
    assert fold_checkpoints(status, make_progress(checkpoints=()), RESOLVED) == status


def test_checkpoints_follow_the_ledger_oldest_first() -> None:
    heard = make_progress(checkpoints=(make_record(10), make_record(5)), best_step=5)
    status = fold_checkpoints(FineTuneJobStatus(checkpoints=(make_record(1),)), heard, RESOLVED)
    assert status.checkpoints == (make_record(5), make_record(10))
    assert status.best_checkpoint == BestCheckpoint(step=5, uri=make_record(5).uri, metric="f1", value=0.9)


def test_best_checkpoint_that_was_not_measured_is_not_claimed() -> None:
    heard = make_progress(checkpoints=(make_record(5, metrics={}),), best_step=5)
    assert fold_checkpoints(FineTuneJobStatus(), heard, RESOLVED).best_checkpoint is None


@pytest.mark.parametrize("best_step", [None, 1, LIMIT + 6])
def test_status_keeps_the_newest_checkpoints_and_the_best(best_step: int | None) -> None:
    records = tuple(make_record(step) for step in range(1, LIMIT + 7))
    status = fold_checkpoints(FineTuneJobStatus(), make_progress(checkpoints=records, best_step=best_step), RESOLVED)
    newest = [record.step for record in records[-LIMIT:]]
    assert [record.step for record in status.checkpoints] == ([1, *newest[1:]] if best_step == 1 else newest)


def test_attempt_trusts_verified_checkpoints_of_earlier_attempts_only() -> None:
    status = FineTuneJobStatus(checkpoints=(make_record(5), make_record(6, digest=None), make_record(7, attempt=2)))
    second = AttemptStatus(number=2, start_time=format_time(NOW), nodes=2)
    attempt = make_attempt(second, [make_running_pod(1), make_running_pod(0)], status)
    assert attempt.to_data() == {
        "number": 2,
        "members": {"0": "10.0.0.1", "1": "10.0.0.2"},
        "master": {"host": "10.0.0.1", "port": 29502},
        "checkpoints": {"step-00000005-a1": make_record(5).digest},
        "skipSteps": [],
    }


def test_event_is_told_for_each_newly_verified_checkpoint() -> None:
    before = FineTuneJobStatus(checkpoints=(make_record(1, digest=None), make_record(2)))
    after = FineTuneJobStatus(checkpoints=(make_record(1), make_record(2), make_record(3, digest=None)))
    note = f"Checkpoint of step 1 at {make_record(1).uri}."
    assert derive_events(before, after) == (Event("Normal", "CheckpointVerified", "Checkpoint", note),)


def make_slow(attempt: int, *ranks: int) -> FineTuneJobStatus:
    stragglers = tuple(Straggler(rank=rank, ratio=2.0) for rank in ranks)
    closed = tuple(make_closed(number) for number in range(1, attempt + 1))
    return FineTuneJobStatus(attempts=closed, progress=ProgressStatus(stragglers=stragglers))


def test_straggler_is_told_once_an_attempt() -> None:
    note = (
        "Rank 3 in attempt 1 computes slower than the others: see status.progress.stragglers, and the node it runs on."
    )
    told = Event("Warning", "StragglerDetected", "FindStraggler", note)
    assert derive_events(make_slow(1), make_slow(1, 3)) == (told,)
    assert derive_events(make_slow(1, 3), make_slow(1, 3)) == ()
    assert [event.reason for event in derive_events(make_slow(1, 3), make_slow(2, 3))][-1] == "StragglerDetected"


def test_figures_without_a_time_may_be_written() -> None:
    assert wait_for_numbers(FineTuneJobStatus(), NOW) == 0.0


@pytest.mark.parametrize(
    ("before", "after", "patch"),
    [
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1, "b": 2}, {"a": 1}, {"b": None}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"x": 3}}, {"a": {"x": 3, "y": None}}),
        ({"a": {"x": 1}}, {"a": {"x": 1}}, {}),
        ({"a": [1, 2]}, {"a": [1]}, {"a": [1]}),
        ({}, {"a": {"x": 1}}, {"a": {"x": 1}}),
    ],
)
def test_merge_patch_turns_one_into_the_other(
    before: dict[str, object], after: dict[str, object], patch: dict[str, object]
) -> None:
    assert make_merge_patch(before, after) == patch
