"""Builders for the tests on a GPU: runs of the trainer's own builders, on the GPU and in its usual precision."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from finetune_contract.run import RunConfig
from tests.trainer.assembled import assemble_alone
from tests.trainer.conftest import Folders
from tests.trainer.make import make_run, make_tasks

if TYPE_CHECKING:
    from finetune_trainer.worker.train import Run

DEVICE: Literal["cpu", "cuda"] = "cuda"


class Case(NamedTuple):
    """What DeepSpeed is asked for."""

    zero_stage: int
    offload: str = "none"

    @property
    def spec(self) -> dict[str, Any]:
        """The part of the job that says so."""
        return {"training": {"deepspeed": {"zeroStage": self.zero_stage, "offload": self.offload}}}


CASES = (*(Case(stage) for stage in range(4)), Case(2, "optimizer"), Case(3, "optimizer"), Case(3, "parameters"))


def name_case(case: Case) -> str:
    return f"zero-{case.zero_stage}" + (f"-offload-{case.offload}" if case.offload != "none" else "")


def make_gpu_run(
    task: str = "text-classification", spec: Mapping[str, Any] | None = None, **resolved: Any
) -> RunConfig:
    """A resolved job on one GPU."""
    return make_run(task, spec, **{"device": DEVICE, "precision": "bf16", **resolved})


def assemble_gpu_run(run: RunConfig, folders: Folders, work_dir: Path, **task_changes: Any) -> Run:
    """A run put together in this process."""
    (task,) = make_tasks(run, folders.model, folders.data, work_dir, **task_changes)
    return assemble_alone(task)
