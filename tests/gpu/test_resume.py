"""A run on a GPU that was stopped and resumed is the uninterrupted run, bit for bit, dropout included."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_contract.run import RunConfig
from finetune_trainer.messages import Resumed, SnapshotReady
from tests.gpu.make import CASES, Case, make_gpu_run, name_case
from tests.trainer.conftest import Folders
from tests.trainer.resuming import resume, run_until, run_whole

pytestmark = [pytest.mark.gpu, pytest.mark.distributed]


def make_long_run(
    task: str = "text-classification", method: str = "full", case: Case = CASES[0], precision: str = "bf16"
) -> RunConfig:
    """Micro-batches to accumulate, more than one epoch, an evaluation before the end."""
    return make_gpu_run(
        task,
        {**case.spec, "strategy": {"method": method}, "checkpoints": {"everySteps": 3}},
        precision=precision,
        zero_stage=case.zero_stage,
        batch_size=7,
        micro_batch_size=2,
        epochs=1.5,
        evaluate_every_steps=8,
        evaluate_every_epochs=None,
    )


def assert_resumed_equals_whole(run: RunConfig, folders: Folders, work_dir: Path) -> None:
    whole = run_whole(run, folders, work_dir / "whole")
    stopped = run_until(2, run, folders, work_dir / "stopped")
    resumed = resume(run, folders, stopped, work_dir / "resumed")
    assert resumed.exit_codes == [0]
    same = {"seconds": 0.0}
    assert resumed.evaluation.model_copy(update=same) == whole.model_copy(update=same)
    last = max(message.step for message in stopped.heard(SnapshotReady))
    assert resumed.heard(Resumed) == [Resumed(step=last)]
    assert 2 < last < 8  # before the first evaluation, within an epoch


@pytest.mark.parametrize("case", CASES, ids=name_case)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    classifier: Folders, tmp_path: Path, method: str, case: Case
) -> None:
    assert_resumed_equals_whole(make_long_run(method=method, case=case), classifier, tmp_path)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("zero_stage", [0, 2])
def test_so_it_does_in_the_other_precisions(
    classifier: Folders, tmp_path: Path, zero_stage: int, precision: str
) -> None:
    assert_resumed_equals_whole(make_long_run(case=Case(zero_stage), precision=precision), classifier, tmp_path)


@pytest.mark.parametrize("zero_stage", range(4))
def test_a_resumed_chat_run_equals_the_uninterrupted_one(chat_model: Folders, tmp_path: Path, zero_stage: int) -> None:
    run = make_long_run("text-generation", "lora", Case(zero_stage))
    assert_resumed_equals_whole(run, chat_model, tmp_path)
