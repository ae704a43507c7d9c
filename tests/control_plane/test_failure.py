"""What follows a failed attempt, class by class, without pods and agents."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_contract.exits import FailureClass
from finetune_contract.progress import Failure
from finetune_contract.status import AttemptsFolded, AttemptStatus, FineTuneJobStatus
from finetune_operator.plan.failure import (
    End,
    Retry,
    apply_retry,
    choose_cause,
    choose_micro_batch_size,
    compute_delay,
    decide_retry,
)
from finetune_operator.plan.resolve import resolve
from finetune_operator.plan.times import format_time
from tests.control_plane.make import NOW, make_accepted_job, make_closed, make_failure

CRASH = make_failure()
HANG = make_failure(failure_class=FailureClass.HANG, reason="HangDetected", message="rank 1 hangs")
MEMORY = make_failure(failure_class=FailureClass.OUT_OF_MEMORY, reason="OutOfMemory", message="no memory")
NUMERIC = make_failure(failure_class=FailureClass.NUMERIC, reason="NumericError", message="the loss is NaN", step=7)


def decide(
    *failures: Failure, spec: dict[str, Any] | None = None, attempt: dict[str, Any] | None = None, **facts: Any
) -> Retry | End:
    """What follows when these were the failures of the job's attempts, each of which made progress."""
    closed = tuple(
        make_closed(number, failure=failure, last_step=number, **(attempt or {}))
        for number, failure in enumerate(failures, 1)
    )
    job = make_accepted_job(spec)
    return decide_retry(FineTuneJobStatus(attempts=closed, **facts), job.spec, resolve(job))


@pytest.mark.parametrize("class_", [FailureClass.INFRASTRUCTURE, FailureClass.STORAGE, FailureClass.PEER_LOST])
def test_what_is_nobodys_fault_is_tried_again_at_no_cost(class_: FailureClass) -> None:
    failures = [make_failure(failure_class=class_)] * 9
    assert decide(*failures, spec={"lifecycle": {"backoffLimit": 0}}) == Retry()


def test_user_error_is_the_end() -> None:
    failure = make_failure(failure_class=FailureClass.USER, reason="DataError", message="row 7 has no label")
    assert decide(failure) == End("DataError", "row 7 has no label")


@pytest.mark.parametrize("failure", [CRASH, HANG])
def test_crashes_and_hangs_count_against_the_backoff_limit(failure: Failure) -> None:
    spec = {"lifecycle": {"backoffLimit": 2}}
    lost = make_failure(failure_class=FailureClass.INFRASTRUCTURE)
    assert decide(failure, lost, failure, spec=spec) == Retry()
    assert decide(failure, lost, failure, failure, spec=spec) == End(
        "BackoffLimitExceeded",
        f"3 attempts crashed, and spec.lifecycle.backoffLimit allows 2; the last: {failure.message}",
    )


def test_failures_that_were_folded_away_count_too() -> None:
    spec = {"lifecycle": {"backoffLimit": 2}}
    assert decide(CRASH, spec=spec, attempts_folded=AttemptsFolded(count=4, counted_failures=1)) == Retry()
    assert isinstance(decide(CRASH, spec=spec, attempts_folded=AttemptsFolded(count=4, counted_failures=2)), End)


def test_without_retries_the_first_crash_is_the_end() -> None:
    assert decide(CRASH, spec={"lifecycle": {"backoffLimit": 0}}) == End(
        "BackoffLimitExceeded",
        f"1 attempt crashed, and spec.lifecycle.backoffLimit allows 0; the last: {CRASH.message}",
    )


def test_hang_is_the_end_where_the_policy_says_so() -> None:
    assert decide(HANG, spec={"failurePolicy": {"hang": "fail"}}) == End("HangDetected", "rank 1 hangs")


@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_numeric_trouble_that_reaches_the_operator_is_the_end_unless_it_may_roll_back(policy: str) -> None:
    assert decide(NUMERIC, spec={"failurePolicy": {"numeric": policy}}) == End("NumericError", "the loss is NaN")


def test_rollback_passes_over_the_step_until_its_budget_is_used_up() -> None:
    spec = {"failurePolicy": {"numeric": "rollback", "numericBudget": 2}}
    assert decide(NUMERIC, spec=spec, skipped_steps=(3,)) == Retry(skip_step=7)
    assert decide(NUMERIC, spec=spec, skipped_steps=(3, 5)) == End(
        "NumericError", "the loss is NaN; spec.failurePolicy.numericBudget (2) is used up"
    )


def test_rollback_without_a_step_has_nothing_to_pass_over() -> None:
    failure = NUMERIC.model_copy(update={"step": None})
    assert decide(failure, spec={"failurePolicy": {"numeric": "rollback"}}) == End("NumericError", "the loss is NaN")


@pytest.mark.parametrize(
    ("last", "batch", "expected"),
    [
        ({}, 32, 8),  # 16 as resolved
        ({"micro_batch_size": 8}, 32, 4),
        ({"micro_batch_size": 3}, 32, 1),
        ({"micro_batch_size": 16, "nodes": 2}, 6, 1),  # three rows a worker are all that it computed
    ],
)
def test_memory_that_ran_out_halves_the_micro_batch(last: dict[str, Any], batch: int, expected: int) -> None:
    job = make_accepted_job({"training": {"batchSize": batch}})
    status = FineTuneJobStatus(attempts=(make_closed(1, failure=MEMORY, **last),))
    assert decide_retry(status, job.spec, resolve(job)) == Retry()
    assert choose_micro_batch_size(status, resolve(job)) == expected


def test_smaller_micro_batch_stays_in_all_later_attempts() -> None:
    resolved = resolve(make_accepted_job())
    attempts = (make_closed(1, failure=MEMORY), make_closed(2, failure=CRASH, micro_batch_size=8))
    assert choose_micro_batch_size(FineTuneJobStatus(attempts=attempts), resolved) == 8
    assert choose_micro_batch_size(FineTuneJobStatus(), resolved) is None


def test_memory_that_does_not_suffice_for_one_row_is_the_end() -> None:
    assert decide(MEMORY, attempt={"micro_batch_size": 1}) == End(
        "OutOfMemory", "no memory; a smaller micro-batch than 1 row does not exist"
    )


def test_pod_without_memory_before_any_worker_counts_as_a_crash() -> None:
    spec = {"lifecycle": {"backoffLimit": 1}}
    assert decide(MEMORY, spec=spec, attempt={"nodes": 0}) == Retry()
    assert isinstance(decide(MEMORY, MEMORY, spec=spec, attempt={"nodes": 0}), End)


@pytest.mark.parametrize(
    ("last_steps", "seconds"),
    [
        ([0], 0.0),
        ([50], 0.0),
        ([50, 50], 10.0),
        ([50, 51], 0.0),
        ([50, 40, 50], 20.0),
        ([0, 0, 0, 0], 40.0),
        ([0] * 9, 300.0),
        ([50, 40, 45, 60, 60], 10.0),
    ],
)
def test_retries_wait_longer_only_while_no_attempt_gets_further(last_steps: list[int], seconds: float) -> None:
    attempts = tuple(make_closed(number, last_step=step) for number, step in enumerate(last_steps, 1))
    assert compute_delay(attempts) == seconds


def test_stopped_attempts_neither_wait_nor_forgive() -> None:
    failed, stopped = make_closed(1, last_step=5), make_closed(2, result="Stopped", failure=None, last_step=5)
    assert compute_delay((failed, stopped)) == 0.0
    assert compute_delay((failed, failed, stopped)) == 10.0
    assert compute_delay((failed, stopped, make_closed(3, last_step=5))) == 10.0


def test_retry_is_written_as_a_moment_that_is_never_too_early() -> None:
    status = FineTuneJobStatus(skipped_steps=(9,))
    assert apply_retry(status, Retry(10.0, skip_step=3), NOW + 0.2) == FineTuneJobStatus(
        retry_time=format_time(NOW + 11), skipped_steps=(3, 9)
    )
    assert apply_retry(status, Retry(), NOW) == status


def test_cause_is_the_earliest_failure_that_is_not_the_consequence_of_another() -> None:
    victim = make_failure(failure_class=FailureClass.PEER_LOST, at=NOW)
    waiting = make_failure(failure_class=FailureClass.HANG, secondary=True, at=NOW + 1)
    cause, later = make_failure(rank=3, at=NOW + 2), make_failure(rank=2, at=NOW + 3)
    assert choose_cause([victim, waiting, later, cause]) == cause
    assert choose_cause([waiting, victim]) == victim
    assert choose_cause([]) is None


def test_closed_attempt_without_failure_has_nothing_to_decide() -> None:
    stopped = AttemptStatus(number=1, start_time=format_time(NOW), end_time=format_time(NOW), result="Stopped")
    job = make_accepted_job()
    with pytest.raises(AssertionError):
        decide_retry(FineTuneJobStatus(attempts=(stopped,)), job.spec, resolve(job))
