"""What becomes of a step that nothing can be learnt from, by failurePolicy.numeric; on every rank alike."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from finetune_contract.exits import FailureClass, WorkerExit
from finetune_contract.run import RunConfig
from finetune_trainer.messages import Failed, Logged, SnapshotReady, Warned
from finetune_trainer.worker.order import order_rows
from tests.trainer.conftest import Folders
from tests.trainer.make import losses_of, make_run, make_tasks
from tests.trainer.pool import Attempt, run_attempt
from tests.trainer.sabotage import PoisonedRows

pytestmark = pytest.mark.distributed

BAD_STEP = 4
ROWS, BATCH = 40, 8
STAGES = (0, pytest.param(1, marks=pytest.mark.matrix), 2, pytest.param(3, marks=pytest.mark.matrix))


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
def rows_of(step: int) -> tuple[int, ...]:
    seed = make_run().spec.training.seed
    return tuple(order_rows(seed, ROWS, (step - 1) * BATCH, BATCH).tolist())


def poison(how: Any = "loss", step: int = BAD_STEP) -> PoisonedRows:
    return PoisonedRows(frozenset(rows_of(step)[:1]), how)


def run(folders: Folders, work_dir: Path, run: RunConfig, sabotage: PoisonedRows | None, **task: Any) -> Attempt:
    return run_attempt(make_tasks(run, folders.model, folders.data, work_dir, **task), sabotage=sabotage)


@pytest.mark.parametrize("zero_stage", STAGES)
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


@pytest.mark.parametrize("zero_stage", STAGES)
def test_gradients_that_are_not_finite_end_the_attempt_although_the_loss_is(
    plain_classifier: Folders, tmp_path: Path, zero_stage: int
) -> None:
    run_config = make_numeric_run({"numeric": "rollback"}, zero_stage=zero_stage)
    attempt = run(plain_classifier, tmp_path, run_config, poison("gradients"))
    assert attempt.exit_codes == [WorkerExit.NUMERIC] * 2
    cause, victim = (message.failure for message in attempt.heard(Failed))
    assert (cause.step, cause.samples, cause.secondary) == (BAD_STEP, rows_of(BAD_STEP), False)
    assert victim.secondary
    assert cause.message.startswith(f"the gradients of step {BAD_STEP} are not finite, although its loss is ")
    assert cause.message.endswith(
        "; the next attempt goes back to the last checkpoint and passes over the rows of this step"
    )
    assert [message.step for message in attempt.heard(SnapshotReady)] == [2, 2]


@pytest.mark.parametrize("zero_stage", STAGES)
@pytest.mark.parametrize("how", ["loss", pytest.param("gradients", marks=pytest.mark.matrix)])
def test_skip_leaves_the_update_out_and_says_so(
    plain_classifier: Folders, tmp_path: Path, zero_stage: int, how: str
) -> None:
    skipping = make_numeric_run({"numeric": "skip"}, zero_stage=zero_stage)
    attempt = run(plain_classifier, tmp_path / "skipped", skipping, poison(how))
    assert attempt.exit_codes == [0, 0]
    (warned,) = attempt.heard(Warned)
    assert warned.message.endswith("; the step was passed over (failurePolicy.numeric: skip)")
    logged = [message.progress for message in attempt.heard(Logged)]
    assert [progress.skipped_steps for progress in logged] == [0, 0, 0, 1, 1]
    # The same figures as where the rows were passed over from the beginning: scheduler and step count went on.
    passed_over = run(plain_classifier, tmp_path / "passed", skipping, None, skip_steps=(BAD_STEP,))
    assert losses_of(attempt.evaluation.curves) == losses_of(passed_over.evaluation.curves)
    assert attempt.evaluation.evaluation == passed_over.evaluation.evaluation
