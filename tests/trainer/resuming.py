"""Attempts that follow each other: one that is stopped, and the next with the files that agents would bring."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from finetune_contract.exits import WorkerExit
from finetune_contract.run import RunConfig
from finetune_trainer.messages import (
    AgentEnvelope,
    FetchCheckpoint,
    Fetched,
    Logged,
    Offer,
    SnapshotReady,
    WorkerMessage,
)
from finetune_trainer.results import FinalEvaluation
from tests.trainer.conftest import Folders
from tests.trainer.make import make_offer, make_tasks
from tests.trainer.pool import Attempt, Worker, call_in_worker, run_attempt

STATE = "trainer_state.json"


def run_whole(run: RunConfig, folders: Folders, work_dir: Path) -> FinalEvaluation:
    """What an attempt that nobody disturbs ends with."""
    attempt = run_attempt(make_tasks(run, folders.model, folders.data, work_dir))
    assert attempt.exit_codes == [0] * run.resolved.world_size
    return attempt.evaluation


def run_until(
    step: int, run: RunConfig, folders: Folders, work_dir: Path, sabotage: Callable[[], None] | None = None
) -> Attempt:
    """One rank alone is asked to stop, once this step was logged."""

    def stop_there(worker: Worker, message: WorkerMessage, workers: list[Worker]) -> None:
        if isinstance(message, Logged) and message.progress.step == step:
            workers[-1].ask_to_stop()

    attempt = run_attempt(make_tasks(run, folders.model, folders.data, work_dir), stop_there, sabotage)
    assert attempt.exit_codes == [WorkerExit.STOPPED] * run.resolved.world_size
    return attempt


def resume(
    run: RunConfig,
    folders: Folders,
    former: Attempt,
    work_dir: Path,
    steps: int = 2,
    *,
    sabotage: Callable[[], None] | None = None,
    **task_changes: Any,
) -> Attempt:
    """The next attempt on other disks: every node has its own files of the newest checkpoints, and nothing else."""
    tasks = make_tasks(run, folders.model, folders.data, work_dir, attempt=2, **task_changes)
    changed = []
    for task in tasks:
        saved = task.node if task.node in {worker.task.node for worker in former.workers} else 0
        places = copy_node(former, saved, Path(task.attempt_dir) / "resume")
        offers = [make_offer(places[step], step, len(former.workers)) for step in sorted(places, reverse=True)]
        best_dir = find_best(former) if task.rank == 0 else None
        changed.append(task.model_copy(update={"offers": tuple(offers[:steps]), "best_dir": best_dir}))
    return run_attempt(changed, sabotage=sabotage)


def resume_converted(run: RunConfig, folders: Folders, former: Attempt, work_dir: Path) -> Attempt:
    """The next attempt with another number of processes: the newest checkpoint is asked for, and converted."""
    step = max(message.step for message in former.heard(SnapshotReady))
    gathered, converted = work_dir / "all", work_dir / "universal"
    for node in reversed(range(run.resolved.nodes + len(former.workers))):
        copy_node(former, node, gathered, everything=True)
    name = gather_step(gathered, step)
    assert call_in_worker(_convert, str(name), str(converted)) == "converted"
    tasks = make_tasks(run, folders.model, folders.data, work_dir, attempt=2)
    offers: Sequence[Offer] = (make_offer(None, step, len(former.workers)),)
    answer = _deliver(Fetched(name=offers[0].name, path=str(converted), universal=True))
    best_dir = find_best(former)
    changed = [task.model_copy(update={"offers": offers, "best_dir": best_dir}) for task in tasks]
    return run_attempt(changed, answer)


def gather_step(folder: Path, step: int) -> Path:
    """Folder of one step below a folder of `copy_node`."""
    return folder / f"step-{step:08d}-a1"


def copy_node(former: Attempt, node: int, target: Path, everything: bool = False) -> dict[int, Path]:
    """Copy what the ranks of one node have saved (and rank 0's state) into a folder a step; return them by step."""
    folders: dict[int, Path] = {}
    for worker in former.workers:
        own = worker.task.node == node
        for message in worker.heard(SnapshotReady):
            folder = gather_step(target, message.step)
            for file in message.files if own else {STATE} & set(message.files) - ({STATE} if everything else set()):
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_bytes((Path(message.folder) / file).read_bytes())
            folders[message.step] = folder
    return folders


def find_best(former: Attempt) -> str | None:
    """Folder of the best snapshot."""
    messages = former.workers[0].heard(SnapshotReady)
    return next((message.folder for message in reversed(messages) if message.best), None)


def _convert(connection: Connection, source: str, target: str) -> None:
    from finetune_trainer.worker.universal import convert

    convert(Path(source), Path(target))
    sys.stdout.flush()
    connection.send("converted")


def _deliver(fetched: Fetched) -> Callable[[Worker, WorkerMessage, list[Worker]], None]:
    def answer(worker: Worker, message: WorkerMessage, workers: list[Worker]) -> None:
        if isinstance(message, FetchCheckpoint):
            assert message.name == fetched.name
            worker.connection.send_bytes(AgentEnvelope(message=fetched).to_json().encode())

    return answer
