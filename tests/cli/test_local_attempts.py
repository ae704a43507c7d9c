"""The attempts of a local run: the operator's own rules, with the account of one command."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_cli.earlier_runs import EarlierRuns
from finetune_cli.local_attempts import (
    begin,
    describe_attempt,
    describe_resume,
    describe_retry,
    fail,
    list_attempts,
    note,
    open_account,
)
from finetune_contract.attempt import Attempt, Endpoint
from finetune_contract.exits import FailureClass
from finetune_contract.progress import Failure, StepProgress
from finetune_contract.run import RunConfig
from finetune_contract.status import FineTuneJobStatus
from finetune_operator.plan.failure import End, count_wait
from finetune_operator.plan.resolve import build_run_config
from tests.cli.make import make_checkpoint, make_job, make_progress

NOW = 1_800_000_000.0
EARLIER = EarlierRuns(attempt=2, checkpoints=(make_checkpoint(10, 1), make_checkpoint(20, 2, digest=None)))


def make_run(change: dict[str, Any] | None = None) -> RunConfig:
    return build_run_config(make_job(change))


def make_failure(failure_class: FailureClass = FailureClass.CODE, **fields: Any) -> Failure:
    return Failure(
        failure_class=failure_class, reason="CodeCrash", message="worker 0 was ended by signal 9", at=NOW, **fields
    )


def fail_next(
    status: FineTuneJobStatus, run: RunConfig, failure: Failure, step: int = 0, resumed_from: int | None = None
) -> tuple[FineTuneJobStatus, End | None]:
    """One more attempt that came to this step and failed."""
    status = begin(status, run, NOW)
    progress = make_progress(
        attempt=status.attempts[-1].number,
        step=StepProgress(step=step, first_step_at=NOW if step else None),
        resumed_from=resumed_from,
    )
    return fail(note(status, progress), failure, status.checkpoints, run, NOW)


def test_the_next_attempt_has_the_next_number_and_trusts_the_digests_of_the_ledger_only() -> None:
    run = make_run()
    status = begin(open_account(EARLIER, NOW), run, NOW)
    assert describe_attempt(status, run, "127.0.0.1", 29999) == Attempt(
        number=3,
        members={"0": "127.0.0.1"},
        master=Endpoint(host="127.0.0.1", port=29999),
        checkpoints={"step-00000010-a1": "sha256:00"},
    )
    assert [attempt.number for attempt in list_attempts(status)] == [3]


def test_the_first_attempt_has_nothing_to_trust() -> None:
    run = make_run()
    status = begin(open_account(EarlierRuns(), NOW), run, NOW)
    assert describe_attempt(status, run, "127.0.0.1", 29999).checkpoints == {}


def test_a_crash_is_tried_again_at_once_and_backs_off_only_without_progress() -> None:
    run, status = make_run(), open_account(EarlierRuns(), NOW)
    waits = []
    for step, resumed_from in ((40, None), (40, 40), (40, 40), (41, 40)):
        status, end = fail_next(status, run, make_failure(FailureClass.STORAGE), step, resumed_from)
        assert end is None
        waits.append(count_wait(status, NOW))
    assert waits == [0.0, 10.0, 20.0, 0.0]
    assert [attempt.lost_steps for attempt in list_attempts(status)] == [0, 0, 0, 0]


def test_crashes_beyond_the_backoff_limit_end_the_run_and_earlier_commands_do_not_count() -> None:
    run, status = make_run({"lifecycle": {"backoffLimit": 1}}), open_account(EARLIER, NOW)
    status, first = fail_next(status, run, make_failure())
    status, second = fail_next(status, run, make_failure())
    assert first is None
    assert second is not None
    assert second.reason == "BackoffLimitExceeded"
    assert "worker 0 was ended by signal 9" in second.message


def test_memory_that_did_not_suffice_halves_the_micro_batch() -> None:
    run = make_run({"training": {"batchSize": 16, "microBatchSize": 8}})
    status, end = fail_next(open_account(EarlierRuns(), NOW), run, make_failure(FailureClass.OUT_OF_MEMORY))
    assert end is None
    assert describe_attempt(begin(status, run, NOW), run, "127.0.0.1", 29999).micro_batch_size == 4


def test_rollback_passes_over_the_step_and_what_came_after_it_is_not_trusted() -> None:
    run = make_run({"failurePolicy": {"numeric": "rollback"}})
    status = open_account(EarlierRuns(checkpoints=(make_checkpoint(10), make_checkpoint(30))), NOW)
    status, end = fail_next(status, run, make_failure(FailureClass.NUMERIC, step=25), step=31)
    assert end is None
    told = describe_attempt(begin(status, run, NOW), run, "127.0.0.1", 29999)
    assert (told.skip_steps, list(told.checkpoints)) == ((25,), ["step-00000010-a1"])


def test_a_users_mistake_ends_the_run() -> None:
    _, end = fail_next(open_account(EarlierRuns(), NOW), make_run(), make_failure(FailureClass.USER))
    assert end is not None


@pytest.mark.parametrize(
    ("step", "wait", "line"),
    [
        (0, 0.0, "attempt 1 failed: worker 0 was ended by signal 9; attempt 2 begins now"),
        (1240, 10.0, "attempt 1 failed at step 1,240: worker 0 was ended by signal 9; attempt 2 begins in 10 s"),
    ],
)
def test_a_retry_in_a_line(step: int, wait: float, line: str) -> None:
    status, _ = fail_next(open_account(EarlierRuns(), NOW), make_run(), make_failure(), step)
    assert describe_retry(status, wait) == line


@pytest.mark.parametrize(
    ("resumed_from", "line"),
    [(40, "attempt 1 resumes from step 40"), (None, "attempt 1 begins from the pre-trained model")],
)
def test_where_an_attempt_goes_on_in_a_line(resumed_from: int | None, line: str) -> None:
    status, _ = fail_next(open_account(EarlierRuns(), NOW), make_run(), make_failure(), 41, resumed_from)
    assert describe_resume(status.attempts[-1]) == line


def test_what_an_agent_says_of_another_attempt_changes_nothing() -> None:
    status = begin(open_account(EARLIER, NOW), make_run(), NOW)
    assert note(status, make_progress(attempt=2, step=StepProgress(step=99, first_step_at=NOW))) == status
