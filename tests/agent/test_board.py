"""The board: messages in, Progress out, and the latch of the news."""

from __future__ import annotations

from finetune_contract.progress import CheckpointRecord, Outcome, RankHeartbeat, StepProgress
from finetune_trainer.agent.progress import Board
from finetune_trainer.errors import DataError, NumericError
from finetune_trainer.messages import Evaluated, Heartbeat, Logged, Resumed, SnapshotReady, Warned, WorkerPhase
from tests.agent.make import make_attempt


def _make_board() -> Board:
    return Board("uid", 0, "trainer", clock=lambda: 7.0)


def _beat(rank: int, phase: WorkerPhase, step: int) -> Heartbeat:
    return Heartbeat(rank=rank, phase=phase, step=step, at=5.0)


def _log(step: int, quiet_until: float | None = None) -> Logged:
    return Logged(
        progress=StepProgress(step=step, total_steps=20, loss=0.5),
        tokens_total=100,
        samples_total=10,
        data_wait_seconds=0.0,
        save_stall_seconds=0.0,
        quiet_until=quiet_until,
    )


def test_messages_of_workers_become_progress() -> None:
    board = _make_board()
    board.begin(make_attempt(3))
    for message in (
        Resumed(step=10, skipped=("step-20: damaged",)),
        _beat(1, "training", 11),
        _beat(0, "training", 11),
        _log(11),
        Evaluated(step=11, split="validation", metrics={"f1": 0.8}, best=True),
        Evaluated(step=11, split="test", metrics={"f1": 0.1}, best=False),
        Warned(message="the bucket is slow"),
    ):
        board.receive(message)
    progress = board.snapshot()
    assert (progress.attempt, progress.phase, progress.resumed_from, progress.at) == (3, "Training", 10, 7.0)
    assert progress.step == StepProgress(step=11, total_steps=20, loss=0.5)
    assert progress.ranks == (
        RankHeartbeat(rank=0, phase="training", step=11, at=5.0),
        RankHeartbeat(rank=1, phase="training", step=11, at=5.0),
    )
    assert progress.metrics == {"f1": 0.8}
    assert progress.warnings == ("step-20: damaged", "the bucket is slow")


def test_nothing_but_steps_is_expected_until_what_the_worker_foresaw() -> None:
    board = _make_board()
    board.begin(make_attempt(1))
    assert board.snapshot().quiet_until is None
    board.receive(_beat(0, "training", 4))
    board.receive(_log(4, quiet_until=60.0))
    assert board.snapshot().quiet_until == 60.0
    board.receive(_beat(0, "evaluating", 5))
    assert board.snapshot().quiet_until is None


def test_checkpoint_on_its_way_to_the_store_is_expected_any_moment() -> None:
    board = _make_board()
    board.begin(make_attempt(1))
    board.receive(_beat(0, "training", 5))
    board.receive(_log(5, quiet_until=60.0))
    board.receive(SnapshotReady(rank=0, step=5, folder="slot-0", files=()))
    assert board.snapshot().quiet_until is None
    record = CheckpointRecord(step=5, attempt=1, state="Verified", uri="s3://b/step-5", digest="sha256:5")
    board.set_ledger((record,), None)
    assert board.snapshot().quiet_until == 60.0


def test_a_node_without_rank_0_knows_its_step_by_heartbeats() -> None:
    board = _make_board()
    board.begin(make_attempt(1))
    board.receive(_beat(2, "training", 4))
    assert board.snapshot().step.step == 4


def test_a_second_failure_never_overwrites_the_first() -> None:
    board = _make_board()
    first = DataError("row 7 has no label").to_failure()
    board.fail(first)
    board.fail(NumericError("the loss is not a number").to_failure())
    assert board.snapshot().failure == first


def test_news_stay_until_the_next_attempt_answers_them() -> None:
    board = _make_board()
    assert not board.news
    board.fail(DataError("row 7 has no label").to_failure())
    board.receive(_beat(0, "training", 1))
    assert (board.news, board.phase) == (True, "Failed")
    board.begin(make_attempt(2))
    assert (board.news, board.phase, board.snapshot().failure) == (False, "Starting", None)


def test_stopped_finished_and_prepared_are_news() -> None:
    outcome = Outcome(succeeded=True, reason="Published", message="Published.", attempt=1)
    for tell in (Board.stopped, Board.prepared, lambda board: board.finish(outcome)):
        board = _make_board()
        tell(board)
        assert board.news


def test_a_warning_is_said_once_and_the_oldest_of_many_gives_way() -> None:
    board = _make_board()
    for number in (*range(60), 59):
        board.warn(f"warning {number}")
    assert board.snapshot().warnings == tuple(f"warning {number}" for number in range(10, 60))
