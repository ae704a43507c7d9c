"""Stopping: all ranks at one step, with a checkpoint, wherever the wish arrives."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_contract.exits import FailureClass, WorkerExit
from finetune_trainer.messages import Evaluated, Failed, Finalized, Heartbeat, SnapshotReady, WorkerMessage, WorkerPhase
from tests.trainer.conftest import Folders
from tests.trainer.make import make_run, make_tasks
from tests.trainer.pool import Attempt, Worker, run_attempt

pytestmark = pytest.mark.distributed


def run_stopped_in(phase: WorkerPhase, folders: Folders, work_dir: Path) -> Attempt:
    """Rank 1 is asked to stop when it is first heard in this phase."""

    def stop_there(worker: Worker, message: WorkerMessage, workers: list[Worker]) -> None:
        if isinstance(message, Heartbeat) and (message.rank, message.phase) == (1, phase):
            worker.ask_to_stop()

    run = make_run(world_size=2, workers_per_node=2, evaluation_batch_size=1, epochs=4.0)
    return run_attempt(make_tasks(run, folders.model, folders.data, work_dir), stop_there)


def test_a_stop_in_training_saves_one_step_on_all_ranks(plain_classifier: Folders, tmp_path: Path) -> None:
    attempt = run_stopped_in("training", plain_classifier, tmp_path)
    assert attempt.exit_codes == [WorkerExit.STOPPED] * 2
    last = [worker.heard(SnapshotReady)[-1].step for worker in attempt.workers]
    assert last[0] == last[1] > 0
    assert not attempt.heard(Failed)


def test_a_stop_in_the_baseline_evaluation_leaves_nothing_behind(plain_classifier: Folders, tmp_path: Path) -> None:
    attempt = run_stopped_in("evaluating", plain_classifier, tmp_path)
    assert attempt.exit_codes == [WorkerExit.STOPPED] * 2
    assert not attempt.heard(SnapshotReady)


def test_a_stop_in_the_final_evaluation_ends_without_a_verdict(plain_classifier: Folders, tmp_path: Path) -> None:
    attempt = run_stopped_in("finalizing", plain_classifier, tmp_path)
    assert attempt.exit_codes == [WorkerExit.STOPPED] * 2
    assert not attempt.heard(Finalized)


def test_a_stop_in_an_evaluation_saves_the_step_unjudged(plain_classifier: Folders, tmp_path: Path) -> None:
    def stop_there(worker: Worker, message: WorkerMessage, workers: list[Worker]) -> None:
        if isinstance(message, Heartbeat) and message.phase == "evaluating" and message.step > 0:
            worker.ask_to_stop()

    run = make_run(evaluation_batch_size=1, evaluate_every_steps=2, evaluate_every_epochs=None)
    attempt = run_attempt(make_tasks(run, plain_classifier.model, plain_classifier.data, tmp_path), stop_there)
    assert attempt.exit_codes == [WorkerExit.STOPPED]
    assert [(message.step, message.metrics) for message in attempt.heard(SnapshotReady)] == [(2, {})]
    assert [message.split for message in attempt.heard(Evaluated)] == ["test"]


def test_a_killed_rank_makes_the_others_say_that_a_peer_is_lost(plain_classifier: Folders, tmp_path: Path) -> None:
    def kill(worker: Worker, message: WorkerMessage, workers: list[Worker]) -> None:
        if isinstance(message, Heartbeat) and message.phase == "training" and message.rank == 1:
            worker.process.kill()

    run = make_run(world_size=2, workers_per_node=2, epochs=500.0, evaluate_every_epochs=500.0)
    attempt = run_attempt(make_tasks(run, plain_classifier.model, plain_classifier.data, tmp_path), kill)
    assert attempt.exit_codes == [WorkerExit.PEER_LOST, -9]
    assert [message.failure.failure_class for message in attempt.heard(Failed)] == [FailureClass.PEER_LOST]
