"""What becomes of a step that nothing can be learnt from, by failurePolicy.numeric; on every rank alike."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from finetune_contract.exits import FailureClass, WorkerExit
from finetune_contract.run import RunConfig
from finetune_trainer.messages import Failed, Logged, Resumed, SnapshotReady, Warned
from finetune_trainer.results import FinalEvaluation
from finetune_trainer.worker.order import order_rows
from tests.trainer.conftest import Folders
from tests.trainer.make import make_run, make_tasks
from tests.trainer.pool import Attempt, run_attempt
from tests.trainer.resuming import resume, run_until
from tests.trainer.sabotage import PoisonedRows

pytestmark = pytest.mark.distributed

BAD_STEP = 4
ROWS, BATCH = 40, 8


def stages(ordinary: int) -> list[Any]:
    """One stage runs every time, the others in the matrix."""
    return [pytest.param(stage, marks=() if stage == ordinary else pytest.mark.matrix) for stage in range(4)]


def make_numeric_run(policy: dict[str, Any], **resolved: Any) -> RunConfig:
    """Two ranks with two micro-batches each, one epoch of five steps."""
    figures = {
        "world_size": 2,
        "workers_per_node": 2,
        "batch_size": BATCH,
        "micro_batch_size": 2,
        "epochs": 1.0,
        **resolved,
    }
    return make_run(spec={"failurePolicy": policy, "checkpoints": {"everySteps": 2}}, **figures)


@lru_cache
def rows_of(step: int, batch: int = BATCH) -> tuple[int, ...]:
    seed = make_run().spec.training.seed
    return tuple(order_rows(seed, ROWS, (step - 1) * batch, batch).tolist())


def poison(how: Any = "loss", step: int = BAD_STEP) -> PoisonedRows:
    return PoisonedRows(frozenset(rows_of(step)[:1]), how)


def run(folders: Folders, work_dir: Path, run: RunConfig, sabotage: PoisonedRows | None, **task: Any) -> Attempt:
    return run_attempt(make_tasks(run, folders.model, folders.data, work_dir, **task), sabotage=sabotage)


def without_time(evaluation: FinalEvaluation) -> FinalEvaluation:
    return evaluation.model_copy(update={"seconds": 0.0})


@pytest.mark.parametrize("zero_stage", stages(0))
def test_fail_names_the_step_its_rank_and_its_rows(plain_classifier: Folders, tmp_path: Path, zero_stage: int) -> None:
    attempt = run(plain_classifier, tmp_path, make_numeric_run({}, zero_stage=zero_stage), poison())
    assert attempt.exit_codes == [WorkerExit.NUMERIC] * 2
    failures = [message.failure for message in attempt.heard(Failed)]
    (cause,) = [failure for failure in failures if not failure.secondary]
    assert (cause.failure_class, cause.step, cause.samples, cause.phase) == (
        FailureClass.NUMERIC,
        BAD_STEP,
        rows_of(BAD_STEP),
        "forward",
    )
    assert cause.message.startswith(f"the loss of step {BAD_STEP} is nan (rank {cause.rank}, micro-batch ")
    assert f"{rows_of(BAD_STEP)[0]}" in cause.message.partition("of data.train")[0]
    assert [message.step for message in attempt.heard(SnapshotReady)] == [2, 2]


@pytest.mark.parametrize("zero_stage", stages(2))
def test_rollback_resumes_before_the_step_and_equals_the_run_that_passed_over_it(
    classifier: Folders, tmp_path: Path, zero_stage: int
) -> None:
    rolling = make_numeric_run({"numeric": "rollback"}, zero_stage=zero_stage)
    # Finite losses, but gradients that are not: DeepSpeed would leave the update out without a word.
    failed = run(classifier, tmp_path / "failed", rolling, poison("gradients"))
    assert failed.exit_codes == [WorkerExit.NUMERIC] * 2
    cause, victim = (message.failure for message in failed.heard(Failed))
    assert (cause.step, cause.samples, cause.phase, cause.secondary) == (
        BAD_STEP,
        rows_of(BAD_STEP),
        "backward",
        False,
    )
    assert victim.secondary
    assert cause.message.startswith(f"the gradients of step {BAD_STEP} are not finite, although its loss is ")
    assert [message.step for message in failed.heard(SnapshotReady)] == [2, 2]
    resumed = resume(rolling, classifier, failed, tmp_path / "next", sabotage=poison(), skip_steps=(BAD_STEP,))
    assert resumed.exit_codes == [0, 0]
    assert resumed.heard(Resumed) == [Resumed(step=2)]
    assert [message.progress.skipped_steps for message in resumed.heard(Logged)] == [0, 1, 1]
    whole = run(classifier, tmp_path / "whole", rolling, None, skip_steps=(BAD_STEP,))
    assert without_time(resumed.evaluation) == without_time(whole.evaluation)


@pytest.mark.parametrize("zero_stage", stages(0))
@pytest.mark.parametrize("how", ["loss", pytest.param("gradients", marks=pytest.mark.matrix)])
def test_skip_leaves_the_update_out_and_says_so(
    plain_classifier: Folders, tmp_path: Path, zero_stage: int, how: str
) -> None:
    skipping = make_numeric_run({"numeric": "skip"}, zero_stage=zero_stage)
    attempt = run(plain_classifier, tmp_path / "skipped", skipping, poison(how))
    assert attempt.exit_codes == [0, 0]
    (warned,) = attempt.heard(Warned)
    assert warned.message.endswith("; the step was passed over (failurePolicy.numeric: skip)")
    assert [message.progress.skipped_steps for message in attempt.heard(Logged)] == [0, 0, 0, 1, 1]
    # As where the rows were passed over from the beginning: learning rate and step count went on.
    passed_over = run(plain_classifier, tmp_path / "passed", skipping, None, skip_steps=(BAD_STEP,))
    assert without_time(attempt.evaluation) == without_time(passed_over.evaluation)


@pytest.mark.matrix
@pytest.mark.parametrize("zero_stage", range(4))
def test_a_resume_after_a_skipped_step_equals_the_uninterrupted_run(
    classifier: Folders, tmp_path: Path, zero_stage: int
) -> None:
    skipping = make_numeric_run({"numeric": "skip"}, zero_stage=zero_stage, epochs=2.0, evaluate_every_epochs=2.0)
    whole = run(classifier, tmp_path / "whole", skipping, poison())
    stopped = run_until(BAD_STEP, skipping, classifier, tmp_path / "stopped", poison())
    resumed = resume(skipping, classifier, stopped, tmp_path / "resumed", sabotage=poison())
    assert resumed.exit_codes == whole.exit_codes == [0, 0]
    assert without_time(resumed.evaluation) == without_time(whole.evaluation)
    assert whole.heard(Logged)[-1].progress.skipped_steps == 2  # its row comes once an epoch


@pytest.mark.parametrize("budget", [2, pytest.param(1, marks=pytest.mark.matrix)])
def test_a_jump_of_the_loss_is_passed_over_until_the_budget_is_used_up(
    plain_classifier: Folders, tmp_path: Path, budget: int
) -> None:
    policy = {"numeric": "skip", "lossSpikeFactor": 50.0, "numericBudget": budget}
    alone = make_numeric_run(policy, world_size=1, workers_per_node=1, batch_size=2)
    poisoned = PoisonedRows(frozenset((rows_of(15, 2)[0], rows_of(17, 2)[0])), "spike")
    attempt = run(plain_classifier, tmp_path, alone, poisoned)
    first, *_ = attempt.heard(Warned)
    assert re.match(
        r"the loss of step 15 is [\d.]+, more than failurePolicy.lossSpikeFactor 50 times the median [\d.]+ of the"
        r" steps before \(rank 0, micro-batch 1: rows \d+, \d+ of data.train, counted from 0\); the step was passed",
        first.message,
    )
    if budget == 2:
        assert attempt.exit_codes == [0]
        assert attempt.heard(Logged)[-1].progress.skipped_steps == 2
    else:
        (failed,) = attempt.heard(Failed)
        assert (failed.failure.failure_class, failed.failure.step) == (FailureClass.NUMERIC, 17)
        assert "1 steps have been passed over and failurePolicy.numericBudget allows 1" in failed.failure.message
