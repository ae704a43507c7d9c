"""Snapshots in slots: in shared memory where they fit, on disk where not, held back where the store is too slow."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from finetune_contract.run import RunConfig
from finetune_trainer.messages import Released, Resumed, SnapshotReady, Warned, WorkerMessage, WorkerTask
from finetune_trainer.worker.slots import Slots, count_slots
from tests.trainer.conftest import Folders
from tests.trainer.make import make_offer, make_run, make_tasks
from tests.trainer.pool import Attempt, Worker, run_attempt
from tests.trainer.resuming import find_best, run_whole

MIB = 1 << 20


def make_saving_run(**spec: Any) -> RunConfig:
    """Ten steps on two ranks of one node, saved after every second one and evaluated after the fifth and the last."""
    return make_run(
        spec={"checkpoints": {"everySteps": 2}, **spec},
        world_size=2,
        workers_per_node=2,
        zero_stage=2,
        evaluate_every_steps=5,
        evaluate_every_epochs=None,
    )


def test_as_many_slots_are_made_as_fit_up_to_four_and_none_where_two_do_not_fit() -> None:
    assert [count_slots(room * MIB, 10 * MIB) for room in (0, 19, 20, 35, 1000)] == [0, 0, 2, 3, 4]


def test_a_slot_is_free_again_once_it_is_released_and_keeps_its_step_until_it_is_taken(tmp_path: Path) -> None:
    slots = Slots(tmp_path, 3, held=[str(tmp_path / "slot-0")])
    one, two = tmp_path / "slot-1", tmp_path / "slot-2"
    assert slots.find_free() == (str(one), str(two))
    slots.take(one, 5)
    slots.complete(one, 5)
    slots.release(str(one))
    slots.release(str(tmp_path / "slot-0"))
    assert (slots.find_step(5), len(slots.find_free())) == (one, 3)
    slots.take(one, 7)
    assert (slots.find_step(5), slots.find_step(7)) == (None, None)


@pytest.mark.distributed
def test_a_crashed_run_goes_on_from_shared_memory_bit_for_bit(classifier: Folders, tmp_path: Path) -> None:
    run, memory = make_saving_run(), tmp_path / "memory"
    room = {"memory_dir": str(memory), "memory_bytes": 64 * MIB}
    whole = run_whole(run, classifier, tmp_path / "whole")

    def crash(worker: Worker, message: WorkerMessage, workers: list[Worker]) -> None:
        if isinstance(message, SnapshotReady) and message.step == 8:
            for other in workers:
                other.process.kill()

    crashed = run_attempt(make_tasks(run, classifier.model, classifier.data, tmp_path / "one", **room), crash)
    held = find_slot(memory, 8)
    offers = (make_offer(held, 8, world_size=2),)
    tasks = make_tasks(
        run, classifier.model, classifier.data, tmp_path / "two",
        attempt=2, offers=offers, held_slots=(str(held),), best_dir=find_best(crashed), **room,
    )  # fmt: skip
    resumed = run_attempt(tasks)
    assert (resumed.exit_codes, resumed.heard(Resumed), resumed.heard(Warned)) == ([0, 0], [Resumed(step=8)], [])
    assert resumed.evaluation.model_copy(update={"seconds": 0.0}) == whole.model_copy(update={"seconds": 0.0})
    # The slot that is still held was not written again.
    assert find_slot(memory, 8) == held
    assert not (tmp_path / "two" / "node-0" / "snapshots").exists()


def find_slot(memory: Path, step: int) -> Path:
    """The slot in which this step lies."""
    (found,) = (
        state.parent
        for state in memory.glob("slot-*/trainer_state.json")
        if json.loads(state.read_text())["step"] == step
    )
    return found


@pytest.mark.distributed
def test_snapshots_that_do_not_fit_into_shared_memory_go_to_disk_and_it_is_said(
    classifier: Folders, tmp_path: Path
) -> None:
    room = {"memory_dir": str(tmp_path / "memory"), "memory_bytes": 100_000}
    tasks = make_tasks(make_run(), classifier.model, classifier.data, tmp_path / "work", **room)
    attempt = run_attempt(tasks)
    (warned,) = attempt.heard(Warned)
    assert warned.message.startswith("snapshots go to the disk of node 0, and saving takes longer: two snapshots of ")
    assert warned.message.endswith("; raise pod.sharedMemory or resources.memory")
    assert (attempt.exit_codes, [message.step for message in attempt.heard(SnapshotReady)]) == ([0], [5, 10])
    assert [slot.name for slot in (Path(tasks[0].attempt_dir) / "snapshots").iterdir()] == ["slot-0"]


@pytest.mark.distributed
def test_where_the_store_is_slow_resume_points_are_left_out_and_evaluated_steps_wait(
    classifier: Folders, tmp_path: Path
) -> None:
    """The agent releases nothing until the workers say that they wait."""
    attempt, waited = run_unreleased(make_saving_run(), classifier, tmp_path)
    assert attempt.exit_codes == [0, 0]
    first = attempt.workers[0]
    # Four slots take the steps 2, 4, 5 and 6; 8 is left out, and 10, which was evaluated, waits for the first of them.
    assert [message.step for message in first.heard(SnapshotReady)] == [2, 4, 5, 6, 10]
    assert [warned.message.split(":")[0] for warned in attempt.heard(Warned)] == [
        "no resume point is saved at step 8",
        "training waits to save step 10",
    ]
    assert all("file:///out takes checkpoints more slowly" in warned.message for warned in attempt.heard(Warned))
    assert waited


def run_unreleased(run: RunConfig, folders: Folders, work_dir: Path) -> tuple[Attempt, bool]:
    """An attempt whose first slot is released a while after it was said that training waits; whether it did wait."""
    room = {"memory_dir": str(work_dir / "memory"), "memory_bytes": 64 * MIB}
    tasks: list[WorkerTask] = make_tasks(run, folders.model, folders.data, work_dir / "work", **room)
    first: list[SnapshotReady] = []
    waited = []

    def react(worker: Worker, message: WorkerMessage, workers: list[Worker]) -> None:
        if isinstance(message, SnapshotReady) and not first:
            first.append(message)
        if isinstance(message, Warned) and "waits" in message.message:
            before = [said.step for said in workers[0].heard(SnapshotReady)]
            waited.append(10 not in before)
            # One rank hears it long before the other: they still choose the same slot.
            for late, other in enumerate(workers):
                time.sleep(0.5 * late)
                other.tell(Released(step=2, folder=f"{work_dir}/memory/slot-0"))

    return run_attempt(tasks, react, releases=False), waited == [True]
