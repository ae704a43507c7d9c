"""Workers of the tests: real processes from one forkserver that imports torch, transformers and deepspeed once.

A start from it costs under a second instead of a dozen. Its environment is set before it begins, as the agent does.
As the agent does, too, the pool takes each snapshot out of its slot (to attempt_dir/saved/), puts the best weights
aside, and releases the slot; messages of snapshots that a test sees name the copy.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

from finetune_contract import names
from finetune_trainer.messages import (
    AgentEnvelope,
    Envelope,
    Fetched,
    Released,
    SnapshotReady,
    Stop,
    WorkerMessage,
    WorkerTask,
)
from finetune_trainer.results import FinalEvaluation

ENVIRONMENT = {
    # One for all workers of a process: `make gpu` sets it before.
    "DS_ACCELERATOR": os.environ.get("DS_ACCELERATOR", "cpu"),
    "OMP_NUM_THREADS": "1",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}
PRELOADED = ["torch", "transformers", "deepspeed", "datasets", "peft", "torchmetrics", "finetune_trainer.worker.run"]
SECONDS = 240.0

Kind = TypeVar("Kind")
os.environ.update(ENVIRONMENT)
_context = get_context("forkserver")
_context.set_forkserver_preload(PRELOADED)


@dataclass
class Worker:
    """One worker process and what it said."""

    task: WorkerTask
    process: Any
    connection: Connection
    messages: list[WorkerMessage] = field(default_factory=list)

    @property
    def exit_code(self) -> int | None:
        code: int | None = self.process.exitcode
        return code

    def heard(self, kind: type[Kind]) -> list[Kind]:
        """Its messages of one kind."""
        return [message for message in self.messages if isinstance(message, kind)]

    def ask_to_stop(self) -> None:
        self.tell(Stop())

    def tell(self, message: Stop | Released | Fetched) -> None:
        with contextlib.suppress(OSError):
            self.connection.send_bytes(AgentEnvelope(message=message).to_json().encode())


@dataclass
class Attempt:
    """The workers of one attempt, ended."""

    workers: list[Worker]

    @property
    def exit_codes(self) -> list[int | None]:
        return [worker.exit_code for worker in self.workers]

    def heard(self, kind: type[Kind]) -> list[Kind]:
        """Messages of one kind, rank after rank."""
        return [message for worker in self.workers for message in worker.heard(kind)]

    @property
    def evaluation(self) -> FinalEvaluation:
        return FinalEvaluation.from_json((Path(self.workers[0].task.attempt_dir) / "evaluation.json").read_bytes())


def run_attempt(
    tasks: Sequence[WorkerTask],
    on_message: Callable[[Worker, WorkerMessage, list[Worker]], None] | None = None,
    sabotage: Callable[[], None] | None = None,
    *,
    releases: bool = True,
) -> Attempt:
    """Start a worker for each task, listen until all have ended; `on_message` may react to what they say.

    `sabotage` is called in every worker before it begins (tests/trainer/sabotage.py). `releases`: slots of snapshots.
    """
    workers = [_start(task, sabotage) for task in tasks]
    watchdog = threading.Timer(SECONDS, _kill, args=(workers,))
    watchdog.start()
    try:
        _listen(workers, on_message, releases)
        for worker in workers:
            worker.process.join()
    finally:
        watchdog.cancel()
    return Attempt(workers)


def call_in_worker(function: Callable[..., None], *arguments: Any) -> Any:
    """Run a function in a fresh process of the pool, with a connection first; return the object that it sends."""
    ours, theirs = _context.Pipe()
    process = _context.Process(target=function, args=(theirs, *arguments))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        process.join()


def _start(task: WorkerTask, sabotage: Callable[[], None] | None) -> Worker:
    Path(task.attempt_dir).mkdir(parents=True, exist_ok=True)
    ours, theirs = _context.Pipe()
    process = _context.Process(target=_main, args=(task.to_json(), theirs, sabotage))
    process.start()
    theirs.close()
    return Worker(task, process, ours)


def _main(task_json: str, connection: Connection, sabotage: Callable[[], None] | None) -> None:
    from finetune_trainer.worker.run import main

    if sabotage is not None:
        sabotage()
    main(task_json, connection)


def _listen(
    workers: Sequence[Worker], on_message: Callable[[Worker, WorkerMessage, list[Worker]], None] | None, releases: bool
) -> None:
    speaking = {worker.connection: worker for worker in workers}
    while speaking:
        for connection in wait(list(speaking)):
            assert isinstance(connection, Connection)
            worker = speaking[connection]
            try:
                message = Envelope.from_json(connection.recv_bytes()).message
            except (EOFError, ConnectionResetError):
                del speaking[connection]
                continue
            if isinstance(message, SnapshotReady):
                message = _take_out(message, worker, workers, releases)
            worker.messages.append(message)
            if on_message is not None:
                on_message(worker, message, list(workers))


def _take_out(message: SnapshotReady, worker: Worker, workers: Sequence[Worker], releases: bool) -> SnapshotReady:
    """Copy a rank's files out of the slot, and release it once all ranks of the node have been heard."""
    slot, attempt_dir = Path(message.folder), Path(worker.task.attempt_dir)
    folder = attempt_dir / "saved" / f"step-{message.step:08d}"
    for file in message.files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(slot / file, folder / file)
    if message.best:
        name = names.checkpoint_folder(message.step, worker.task.attempt)
        shutil.copytree(folder / "weights", attempt_dir.parent / "best" / name / "weights", dirs_exist_ok=True)
    siblings = [other for other in workers if other.task.node == worker.task.node]
    heard = [other for other in siblings if any(said.step == message.step for said in other.heard(SnapshotReady))]
    if releases and len({*map(id, heard), id(worker)}) == len(siblings):
        for sibling in siblings:
            sibling.tell(Released(step=message.step, folder=message.folder))
    return message.model_copy(update={"folder": str(folder)})


def _kill(workers: Sequence[Worker]) -> None:
    for worker in workers:
        if worker.process.is_alive():
            os.kill(worker.process.pid, signal.SIGKILL)
