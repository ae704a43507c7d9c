"""A run that was stopped and resumed is the uninterrupted run, bit for bit, dropout included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune_contract.run import RunConfig
from finetune_trainer.messages import Resumed, SnapshotReady
from finetune_trainer.results import FinalEvaluation
from tests.trainer.conftest import Folders
from tests.trainer.make import losses_of, make_run
from tests.trainer.resuming import resume, run_until, run_whole

pytestmark = pytest.mark.distributed

ORDINARY = {("lora", 2), ("full", 3)}
"""Runs every time; the others belong to the matrix."""


def cases() -> list[Any]:
    every = [(method, stage) for method in ("full", "lora") for stage in range(4)]
    return [pytest.param(*case, marks=() if case in ORDINARY else pytest.mark.matrix) for case in every]


def make_long_run(task: str = "text-classification", method: str = "full", zero_stage: int = 0) -> RunConfig:
    """Two nodes, micro-batches to accumulate, more than one epoch, an evaluation before the end."""
    return make_run(
        task,
        {"strategy": {"method": method}, "checkpoints": {"everySteps": 3}},
        world_size=2,
        nodes=2,
        zero_stage=zero_stage,
        batch_size=7,
        micro_batch_size=2,
        epochs=1.5,
        evaluate_every_steps=8,
        evaluate_every_epochs=None,
    )


def assert_equal(resumed: FinalEvaluation, whole: FinalEvaluation) -> None:
    same = {"seconds": 0.0}
    assert resumed.model_copy(update=same) == whole.model_copy(update=same)


@pytest.mark.parametrize(("method", "zero_stage"), cases())
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    classifier: Folders, tmp_path: Path, method: str, zero_stage: int
) -> None:
    run = make_long_run(method=method, zero_stage=zero_stage)
    whole = run_whole(run, classifier, tmp_path / "whole")
    stopped = run_until(2, run, classifier, tmp_path / "stopped")
    resumed = resume(run, classifier, stopped, tmp_path / "resumed")
    assert resumed.exit_codes == [0, 0]
    assert_equal(resumed.evaluation, whole)
    last = max(message.step for message in stopped.heard(SnapshotReady))
    assert resumed.heard(Resumed) == [Resumed(step=last)]
    assert 2 < last < 8  # before the first evaluation, within an epoch


@pytest.mark.matrix
@pytest.mark.parametrize("zero_stage", range(4))
def test_a_resumed_chat_run_equals_the_uninterrupted_one(chat_model: Folders, tmp_path: Path, zero_stage: int) -> None:
    run = make_long_run("text-generation", "lora", zero_stage)
    whole = run_whole(run, chat_model, tmp_path / "whole")
    stopped = run_until(2, run, chat_model, tmp_path / "stopped")
    assert_equal(resume(run, chat_model, stopped, tmp_path / "resumed").evaluation, whole)


def test_a_damaged_checkpoint_is_passed_over_and_named(classifier: Folders, tmp_path: Path) -> None:
    run = make_long_run()
    whole = run_whole(run, classifier, tmp_path / "whole")
    stopped = run_until(5, run, classifier, tmp_path / "stopped")
    newest = max(stopped.heard(SnapshotReady), key=lambda message: message.step)
    for message in stopped.heard(SnapshotReady):
        if message.step == newest.step and message.rank == 1:
            (Path(message.folder) / "random-rank-1.pt").write_bytes(b"cut off")
    resumed = resume(run, classifier, stopped, tmp_path / "resumed", steps=3)
    assert resumed.exit_codes == [0, 0]
    (told,) = resumed.heard(Resumed)
    assert told.step < newest.step
    assert told.skipped[0].startswith(f"checkpoint step-{newest.step:08d}-a1 is passed over: ")
    assert losses_of(resumed.evaluation.curves) == losses_of(whole.curves)
