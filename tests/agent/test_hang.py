"""Which worker has hung: budgets by what it does, and the cause before those that wait for it."""

from __future__ import annotations

import pytest

from finetune_contract.exits import FailureClass
from finetune_contract.progress import Failure
from finetune_contract.spec.lifecycle import TimeoutsSpec
from finetune_trainer.agent.hang import (
    Budget,
    Sight,
    choose_cause,
    describe_hang,
    find_budget,
    find_suspects,
    is_waiting,
    parse_stack,
)
from finetune_trainer.marks import Mark, Stage

TIMEOUTS = TimeoutsSpec(start_seconds=100, first_step_seconds=90, evaluation_seconds=80, save_seconds=70)
IN_VOTES = Sight(
    ("Current thread 0x1 (most recent call first):", 'File "/code/finetune_trainer/worker/votes.py", line 5')
)
IN_DATA = Sight(("Current thread 0x1 (most recent call first):", 'File "/usr/lib/python3.11/threading.py", line 320'))


def _mark(stage: Stage = "forward", at: float = 0.0, step: int = 7, steps_done: int = 5, pace: float = 0.0) -> Mark:
    return Mark(at, stage, step, steps_done, pace)


@pytest.mark.parametrize(
    ("mark", "timeouts", "budget"),
    [
        (_mark("starting", steps_done=0), TIMEOUTS, Budget(100, "startSeconds")),
        (_mark("forward", steps_done=0), TIMEOUTS, Budget(90, "firstStepSeconds")),
        (_mark("forward", steps_done=1), TIMEOUTS, Budget(90, "firstStepSeconds")),
        (_mark("data", pace=0.5), TIMEOUTS, Budget(60, "stepSeconds")),
        (_mark("waiting", pace=30.0), TIMEOUTS, Budget(300, "stepSeconds")),
        (_mark("update", pace=30.0), TimeoutsSpec(step_seconds=5), Budget(5, "stepSeconds")),
        (_mark("update", steps_done=0), TimeoutsSpec(step_seconds=5), Budget(1800, "firstStepSeconds")),
        (_mark("evaluating", pace=0.5), TIMEOUTS, Budget(80, "evaluationSeconds")),
        (_mark("saving", pace=0.5), TIMEOUTS, Budget(70, "saveSeconds")),
        (_mark("finalizing", pace=0.5), TIMEOUTS, Budget(70, "saveSeconds")),
        (_mark("stopping", pace=0.5), TIMEOUTS, Budget(70, "saveSeconds")),
    ],
)
def test_every_stage_has_its_budget(mark: Mark, timeouts: TimeoutsSpec, budget: Budget) -> None:
    assert find_budget(mark, timeouts) == budget


def test_nobody_is_suspect_within_the_budget() -> None:
    marks = {0: _mark("waiting", pace=1.0), 1: _mark("data", pace=1.0)}
    assert find_suspects(marks, TIMEOUTS, now=60.0, since=0.0) == ()


def test_the_rank_that_others_wait_for_comes_first_although_it_was_seen_later() -> None:
    marks = {
        0: _mark("waiting", at=0.0, pace=1.0),
        1: _mark("data", at=5.0, pace=1.0),
        2: _mark("data", 40.0, pace=1.0),
    }
    assert [suspect.rank for suspect in find_suspects(marks, TIMEOUTS, now=61.0, since=0.0)] == [1, 0]


def test_of_two_that_do_not_wait_the_one_in_the_earlier_step_comes_first() -> None:
    marks = {0: _mark("data", at=0.0, step=8, pace=1.0), 1: _mark("forward", at=2.0, step=7, pace=1.0)}
    assert [suspect.rank for suspect in find_suspects(marks, TIMEOUTS, now=61.0, since=0.0)] == [1, 0]


def test_time_in_which_the_machine_stood_still_is_not_held_against_a_worker() -> None:
    marks = {0: _mark("forward", at=0.0, pace=1.0)}
    assert find_suspects(marks, TIMEOUTS, now=1000.0, since=950.0) == ()


def test_the_stack_tells_the_cause_from_those_in_the_same_stage() -> None:
    marks = {rank: _mark("evaluating", at=float(rank), steps_done=0) for rank in range(3)}
    suspects = find_suspects(marks, TIMEOUTS, now=90.0, since=0.0)
    cause, waits = choose_cause(suspects, {0: IN_VOTES, 1: IN_VOTES, 2: IN_DATA})
    assert (cause.rank, waits) == (2, False)


def test_where_all_wait_the_cause_is_elsewhere() -> None:
    suspects = find_suspects({0: _mark("waiting"), 1: _mark("waiting")}, TIMEOUTS, now=91.0, since=0.0)
    cause, waits = choose_cause(suspects, {0: IN_VOTES, 1: IN_VOTES})
    assert (cause.rank, waits) == (0, True)
    assert describe_hang(cause, IN_VOTES, node=1, waits=waits, alone=False, at=1.0).secondary
    assert not describe_hang(cause, IN_VOTES, node=0, waits=waits, alone=True, at=1.0).secondary


@pytest.mark.parametrize(
    ("stage", "innermost", "waits"),
    [
        ("backward", "/site-packages/torch/distributed/distributed_c10d.py", True),
        ("evaluating", "/site-packages/torch/distributed/distributed_c10d.py", True),
        ("forward", "/site-packages/deepspeed/comm/torch.py", True),
        ("update", "/site-packages/deepspeed/runtime/zero/stage_1_and_2.py", True),
        ("backward", "/site-packages/torch/autograd/graph.py", True),
        ("forward", "/site-packages/torch/nn/functional.py", False),
        ("backward", "/home/user/hooks.py", False),
        ("data", "/usr/lib/python3.11/threading.py", False),
    ],
)
def test_waiting_is_seen_by_the_innermost_frames(stage: Stage, innermost: str, waits: bool) -> None:
    assert is_waiting(stage, Sight((f'File "{innermost}", line 3 in something',))) == waits


def test_a_stopped_process_gives_no_stack_and_is_named_as_such() -> None:
    (suspect,) = find_suspects({3: _mark("update", pace=1.0)}, TIMEOUTS, now=61.0, since=0.0)
    sight = Sight(state="T")
    assert not is_waiting("update", sight)
    assert describe_hang(suspect, sight, node=1, waits=False, alone=False, at=9.0) == Failure(
        failure_class=FailureClass.HANG,
        reason="HangDetected",
        message="rank 3 on node 1 has hung in update of step 7: no sign of life for 61 s, and 60 s are allowed; its "
        "process is stopped (SIGSTOP, or a debugger) and gives no stack. If it was only slow, raise "
        "spec.failurePolicy.timeouts.stepSeconds",
        node=1,
        rank=3,
        exit_code=15,
        phase="update",
        step=7,
        at=9.0,
    )


def test_the_main_threads_stack_comes_first() -> None:
    text = (
        'Thread 0x2 (most recent call first):\n  File "a.py", line 1 in reader\n\n'
        'Current thread 0x1 (most recent call first):\n  File "b.py", line 2 in main\n'
    )
    assert parse_stack(text) == (
        "Current thread 0x1 (most recent call first):",
        'File "b.py", line 2 in main',
        "Thread 0x2 (most recent call first):",
        'File "a.py", line 1 in reader',
    )
