"""Builders for the tests on a GPU: runs of the trainer's own builders, on the GPU and in its usual precision."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from finetune_contract.run import RunConfig
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


@contextmanager
def assembled(run: RunConfig, folders: Folders, work_dir: Path, **task_changes: Any) -> Iterator[Run]:
    """A run put together in this process, whose agent listens and says nothing. The process is of no use afterwards."""
    from finetune_trainer.worker.assemble import assemble
    from finetune_trainer.worker.link import AgentLink
    from finetune_trainer.worker.ranks import join

    (task,) = make_tasks(run, folders.model, folders.data, work_dir, **task_changes)
    Path(task.attempt_dir).mkdir(parents=True, exist_ok=True)
    near, far = Pipe()
    Thread(target=_drain, args=(near,), daemon=True).start()
    yield assemble(task, join(task), AgentLink(far, 0))


def leave(connection: Connection, answer: object) -> None:
    """End this process with an answer, without tearing down what DeepSpeed has set up."""
    connection.send(answer)
    os._exit(0)


def _drain(connection: Connection) -> None:
    while True:
        connection.recv_bytes()
