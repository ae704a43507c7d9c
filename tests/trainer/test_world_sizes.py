"""An attempt that goes on with another number of processes computes what the former ones would have computed."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from finetune_contract.run import RunConfig
from finetune_trainer.messages import Resumed, SnapshotReady
from finetune_trainer.worker.state import TrainerState
from tests.trainer.conftest import Folders
from tests.trainer.make import losses_of, make_run
from tests.trainer.resuming import resume, resume_converted, run_until, run_whole

pytestmark = pytest.mark.distributed

ORDINARY = {("full", 3, (2, 1))}
"""Runs every time; the others belong to the matrix."""


def cases() -> list[Any]:
    every = product(("full", "lora"), (1, 2, 3), ((2, 1), (1, 2), (2, 3)))
    return [
        pytest.param(
            method,
            stage,
            sizes,
            marks=() if (method, stage, sizes) in ORDINARY else pytest.mark.matrix,
            id=f"{method}-{stage}-{sizes[0]}to{sizes[1]}",
        )
        for method, stage, sizes in every
    ]


def make_sized_run(world_size: int, method: str, zero_stage: int) -> RunConfig:
    """One process a node, micro-batches to accumulate, weight decay on one group of parameters only."""
    return make_run(
        spec={
            "strategy": {"method": method, "lora": {"dropout": 0.0}} if method == "lora" else {"method": method},
            "training": {"weightDecay": 0.1},
            "checkpoints": {"everySteps": 3},
        },
        world_size=world_size,
        nodes=world_size,
        zero_stage=zero_stage,
        batch_size=7,
        micro_batch_size=2,
        epochs=1.5,
        evaluate_every_steps=8,
        evaluate_every_epochs=None,
    )


@pytest.mark.parametrize(("method", "zero_stage", "sizes"), cases())
def test_another_number_of_processes_goes_on_with_the_same_losses(
    plain_classifier: Folders, tmp_path: Path, method: str, zero_stage: int, sizes: tuple[int, int]
) -> None:
    before, after = sizes
    run = make_sized_run(before, method, zero_stage)
    whole = run_whole(run, plain_classifier, tmp_path / "whole")
    stopped = run_until(2, run, plain_classifier, tmp_path / "stopped")
    resumed = resume_converted(
        make_sized_run(after, method, zero_stage), plain_classifier, stopped, tmp_path / "resumed"
    )
    assert resumed.exit_codes == [0] * after
    step = max(message.step for message in stopped.heard(SnapshotReady))
    assert resumed.heard(Resumed) == [Resumed(step=step)]
    assert losses_of(resumed.evaluation.curves) == pytest.approx(losses_of(whole.curves), abs=1e-5)
    assert resumed.evaluation.evaluation.test == pytest.approx(whole.evaluation.test, abs=1e-5)
    saved = resumed.workers[0].heard(SnapshotReady)[-1]
    assert TrainerState.from_json((Path(saved.folder) / "trainer_state.json").read_text()).world_size == after


@pytest.mark.matrix
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_without_zero_nothing_has_to_be_converted(
    plain_classifier: Folders, tmp_path: Path, before: int, after: int
) -> None:
    whole = run_whole(make_sized_run(before, "full", 0), plain_classifier, tmp_path / "whole")
    stopped = run_until(2, make_sized_run(before, "full", 0), plain_classifier, tmp_path / "stopped")
    resumed = resume(make_sized_run(after, "full", 0), plain_classifier, stopped, tmp_path / "resumed")
    assert resumed.exit_codes == [0] * after
    assert losses_of(resumed.evaluation.curves) == pytest.approx(losses_of(whole.curves), abs=1e-5)
