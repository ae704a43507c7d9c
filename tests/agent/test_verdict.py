"""Which worker failed first, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from finetune_contract.exits import FailureClass
from finetune_contract.progress import Failure
from finetune_trainer.agent.verdict import WorkerEnd, describe_failure, find_first_failure
from finetune_trainer.errors import DataError, PeerLostError
from finetune_trainer.marks import Mark
from tests.publish.make import make_run

DONE = WorkerEnd(rank=0, exit_code=0, at=1.0)


def _end(rank: int, exit_code: int, at: float, failure: Failure | None = None) -> WorkerEnd:
    return WorkerEnd(rank=rank, exit_code=exit_code, at=at, failure=failure, last_lines=("last words",))


def _lost_peer(rank: int, at: float) -> WorkerEnd:
    return _end(rank, 13, at, PeerLostError("another rank is gone").to_failure().model_copy(update={"at": at}))


def test_workers_that_are_done_or_stopped_have_not_failed() -> None:
    assert find_first_failure([DONE, replace(DONE, rank=1, exit_code=3)], node=0) is None


def test_a_worker_that_leaves_before_its_work_is_done_has_crashed() -> None:
    training = replace(DONE, mark=Mark(at=1.0, stage="forward", step=7, steps_done=7, step_seconds=0.1))
    failure = find_first_failure([training], node=1)
    assert failure is not None
    assert (failure.failure_class, failure.step, failure.message) == (
        FailureClass.CODE,
        7,
        "worker 0 on node 1 ended with exit code 0: its work was not done: some code in it calls exit",
    )
    assert find_first_failure([replace(DONE, mark=replace(training.mark, stage="finalizing"))], node=1) is None


def test_a_cause_comes_before_earlier_victims() -> None:
    failure = find_first_failure([_lost_peer(0, at=5.0), _end(1, -11, at=6.0)], node=2)
    assert failure == Failure(
        failure_class=FailureClass.CODE,
        reason="CodeCrash",
        message="worker 1 on node 2 was ended by signal 11: its last lines say where",
        node=2,
        rank=1,
        exit_code=-11,
        last_lines=("last words",),
        at=6.0,
    )


def test_where_all_are_victims_the_first_is_named() -> None:
    failure = find_first_failure([_lost_peer(0, at=6.0), _lost_peer(1, at=5.0)], node=0)
    assert failure is not None
    assert (failure.failure_class, failure.rank) == (FailureClass.PEER_LOST, 1)


def test_of_two_causes_the_earlier_counts() -> None:
    failure = find_first_failure([_end(0, 1, at=9.0), _end(1, 12, at=8.0)], node=0)
    assert failure is not None
    assert (failure.failure_class, failure.rank) == (FailureClass.NUMERIC, 1)


def test_a_worker_that_the_agent_ended_is_no_cause() -> None:
    ended = replace(_end(0, -15, at=1.0), ended_by_agent=True)
    failure = find_first_failure([ended, _end(1, 1, at=2.0)], node=0)
    assert failure is not None
    assert failure.rank == 1


def test_a_workers_own_words_are_kept_and_completed() -> None:
    said = DataError("row 7 has no label").to_failure()
    failure = describe_failure(_end(3, 10, at=1.0, failure=said), node=1)
    assert failure == said.model_copy(update={"node": 1, "rank": 3, "last_lines": ("last words",)})


@pytest.mark.parametrize(
    ("exit_code", "memory_killed", "failure_class"),
    [
        (-9, True, FailureClass.OUT_OF_MEMORY),
        (-9, False, FailureClass.CODE),
        (-11, True, FailureClass.CODE),
        (11, False, FailureClass.OUT_OF_MEMORY),
        (14, False, FailureClass.STORAGE),
        (77, False, FailureClass.CODE),
    ],
)
def test_the_class_of_an_end_without_words(exit_code: int, memory_killed: bool, failure_class: FailureClass) -> None:
    end = replace(_end(0, exit_code, at=1.0), memory_killed=memory_killed)
    assert describe_failure(end, node=0).failure_class == failure_class


def test_a_worker_killed_for_memory_names_its_micro_batch_and_what_comes_next() -> None:
    resolved = make_run().resolved.model_copy(update={"micro_batch_size": 8})
    mark = Mark(at=1.0, stage="backward", step=7)
    end = replace(_end(0, -9, at=1.0), memory_killed=True, mark=mark, resolved=resolved)
    failure = describe_failure(end, node=0)
    assert failure.message == (
        "worker 0 on node 0 was ended by signal 9: memory did not suffice for micro-batches of 8 rows: the next attempt"
        " computes 4 rows at a time; training.microBatchSize sets it from the start"
    )
    assert (failure.phase, failure.step) == ("backward", 7)
