"""The result does not depend on how the rows of a step are laid out over processes and micro-batches.

Global batch 7 and 40 training, 13 validation, 11 test rows: nothing is divisible by anything.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_contract.attempt import Attempt, Endpoint
from finetune_trainer.results import FinalEvaluation
from tests.trainer.conftest import Folders
from tests.trainer.make import losses_of, make_run, make_tasks
from tests.trainer.pool import run_attempt

pytestmark = pytest.mark.distributed

STAGES = (
    pytest.param(0),
    pytest.param(2),
    pytest.param(1, marks=pytest.mark.matrix),
    pytest.param(3, marks=pytest.mark.matrix),
)


def train(
    folders: Folders, work_dir: Path, world_size: int, zero_stage: int = 0, micro_batch_size: int = 7
) -> FinalEvaluation:
    run = make_run(
        spec={"training": {"maxGradNorm": 0.5}},
        world_size=world_size,
        workers_per_node=world_size,
        zero_stage=zero_stage,
        batch_size=7,
        micro_batch_size=micro_batch_size,
        epochs=1.5,
    )
    attempt = run_attempt(make_tasks(run, folders.model, folders.data, work_dir))
    assert attempt.exit_codes == [0] * world_size
    return attempt.evaluation


@pytest.fixture(scope="module")
def alone(plain_classifier: Folders, tmp_path_factory: pytest.TempPathFactory) -> FinalEvaluation:
    """Return what one process makes of the job."""
    return train(plain_classifier, tmp_path_factory.mktemp("alone"), world_size=1)


def assert_same(evaluation: FinalEvaluation, alone: FinalEvaluation) -> None:
    assert losses_of(evaluation.curves) == pytest.approx(losses_of(alone.curves), abs=1e-5)
    assert evaluation.confusion == alone.confusion
    for split in ("validation", "test", "baseline"):
        assert getattr(evaluation.evaluation, split) == pytest.approx(getattr(alone.evaluation, split), abs=1e-5)
    assert [worst.row for worst in evaluation.worst_examples] == [worst.row for worst in alone.worst_examples]


@pytest.mark.parametrize("zero_stage", STAGES)
@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_losses_and_figures_are_those_of_one_process(
    alone: FinalEvaluation, plain_classifier: Folders, tmp_path: Path, world_size: int, zero_stage: int
) -> None:
    assert_same(train(plain_classifier, tmp_path, world_size, zero_stage), alone)


@pytest.mark.parametrize("zero_stage", STAGES)
@pytest.mark.parametrize("world_size", [1, 2])
def test_losses_do_not_depend_on_the_micro_batch(
    alone: FinalEvaluation, plain_classifier: Folders, tmp_path: Path, world_size: int, zero_stage: int
) -> None:
    assert_same(train(plain_classifier, tmp_path, world_size, zero_stage, micro_batch_size=2), alone)


@pytest.mark.matrix
def test_a_smaller_micro_batch_after_memory_ran_out_gives_the_same_losses(
    plain_classifier: Folders, tmp_path: Path
) -> None:
    whole = make_run(spec={"training": {"maxGradNorm": 0.5}}, batch_size=16, micro_batch_size=16, epochs=2.0)
    losses = []
    for number, micro_batch_size in enumerate((16, 8, 4), 1):
        told = Attempt(
            number=number,
            members={"0": "127.0.0.1"},
            master=Endpoint(host="127.0.0.1", port=29500),
            micro_batch_size=micro_batch_size,
        )
        run = whole.for_attempt(told)
        assert run.resolved.gradient_accumulation_steps == 16 // micro_batch_size
        tasks = make_tasks(run, plain_classifier.model, plain_classifier.data, tmp_path / str(number))
        losses.append(losses_of(run_attempt(tasks).evaluation.curves))
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert losses[2] == pytest.approx(losses[0], abs=1e-5)


def test_training_learns_and_every_row_is_judged_once(alone: FinalEvaluation) -> None:
    losses = losses_of(alone.curves)
    assert losses[-1] < losses[0]
    assert alone.confusion is not None
    assert sum(map(sum, alone.confusion.counts)) == 11
    assert sorted(worst.row for worst in alone.worst_examples) == list(range(11))
