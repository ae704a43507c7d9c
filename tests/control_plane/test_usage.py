"""What a job has used and what it got for it: over restarts, folding, and whatever order the news came in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from finetune_contract.status import AttemptsFolded, AttemptStatus, EndedAttempts, FineTuneJobStatus, UsageStatus
from finetune_operator.plan.attempts import LIMIT, AttemptEnd, begin_attempt, close_attempt, note_steps
from finetune_operator.plan.lifecycle import decide
from finetune_operator.plan.times import format_time
from finetune_operator.plan.usage import count_usage, measure_lost_seconds
from tests.control_plane.make import (
    LATER,
    NOW,
    make_accepted_job,
    make_answer,
    make_failure,
    make_outcome,
    make_record,
    make_step,
)
from tests.control_plane.world import hear, make_training, step

SPEC = make_accepted_job({"resources": {"gpusPerNode": 4}}).spec


def make_attempt(number: int, from_step: int, last_step: int, seconds: float, **facts: Any) -> AttemptStatus:
    """One that held two nodes for 100 s."""
    begun = NOW + 1000 * number
    return AttemptStatus(
        **{
            "number": number,
            "start_time": format_time(begun),
            "end_time": format_time(begun + 100),
            "nodes": 2,
            "from_step": from_step,
            "last_step": last_step,
            "training_seconds": seconds,
            "result": "Failed",
            "reason": "CodeCrash",
            **facts,
        }
    )


def measure(*attempts: AttemptStatus, now: float = NOW, **facts: Any) -> UsageStatus:
    return count_usage(FineTuneJobStatus(attempts=attempts, **facts), SPEC, now).usage


def test_goodput_is_what_steps_took_that_counted_by_what_was_held() -> None:
    usage = measure(make_attempt(1, 0, 10, 80.0), make_attempt(2, 5, 20, 60.0))
    assert usage == UsageStatus(
        gpu_seconds=2 * 100 * 2 * 4.0,
        held_seconds=200.0,
        training_seconds=140.0,
        lost_seconds=40.0,
        goodput=0.5,
    )


def test_attempt_under_way_is_counted_to_now() -> None:
    running = make_attempt(1, 0, 10, 30.0, end_time=None, result="Running")
    usage = measure(running, now=NOW + 1040)
    assert (usage.held_seconds, usage.goodput) == (40.0, 0.75)


def test_nothing_held_has_no_goodput() -> None:
    assert measure().goodput is None


def test_clocks_that_disagree_make_no_goodput_above_one() -> None:
    assert measure(make_attempt(1, 0, 10, 100.4)).goodput == 1.0


def test_attempt_that_begins_before_the_last_one_did_loses_steps_of_both() -> None:
    attempts = (make_attempt(1, 0, 10, 10.0), make_attempt(2, 10, 20, 20.0), make_attempt(3, 5, 6, 1.0))
    assert measure_lost_seconds(attempts) == [5.0, 20.0, 0.0]


def test_attempt_that_made_no_step_takes_nothing_from_the_others() -> None:
    assert measure_lost_seconds((make_attempt(1, 0, 10, 10.0), make_attempt(2, 0, 0, 0.0))) == [0.0, 0.0]


def test_attempt_of_which_only_the_end_was_heard_takes_nothing_from_the_others() -> None:
    assert measure_lost_seconds((make_attempt(1, 0, 10, 10.0), make_attempt(2, 0, 20, 0.0))) == [0.0, 0.0]


def test_folded_attempts_stay_in_the_sums() -> None:
    status = FineTuneJobStatus()
    for number in range(LIMIT + 3):
        begun = NOW + 100 * number
        status = begin_attempt(status, {0: "pod"}, None, SPEC, begun)
        status = note_steps(status, resumed_from=5 * number, last_step=5 * number + 10, training_seconds=40.0)
        end = AttemptEnd("Failed", "CodeCrash" if number % 2 else "PodLost", make_failure())
        status = close_attempt(status, end, begun + 50)
    # Folded once it stands before the last 20: what it lost was settled by its successors.
    assert status.attempts_folded == AttemptsFolded(
        count=3,
        lost_steps=15,
        gpu_seconds=600.0,
        held_seconds=150.0,
        training_seconds=120.0,
        lost_seconds=60.0,
        counted_failures=3,
        ended=(
            EndedAttempts(result="Failed", reason="CodeCrash", count=1),
            EndedAttempts(result="Failed", reason="PodLost", count=2),
        ),
    )
    usage = count_usage(status, SPEC, NOW + 9999).usage
    assert (usage.held_seconds, usage.training_seconds, usage.lost_seconds) == (23 * 50.0, 23 * 40.0, 22 * 20.0)


def test_agent_that_carries_the_former_attempts_figures_is_not_believed() -> None:
    failure = make_failure(node=0)
    failed = step(hear(make_training(), make_answer(phase="Failed", step=make_step(), failure=failure)), LATER)
    carried = make_step(5, training_seconds=7.5, first_step_at=None)
    status = step(hear(failed, make_answer(attempt=2, phase="Starting", step=carried)), LATER + 20).status
    assert [each.training_seconds for each in status.attempts] == [7.5, 0.0]


def test_last_word_of_an_attempt_counts() -> None:
    failure = make_failure(node=0)
    answer = make_answer(phase="Failed", step=make_step(6, training_seconds=9.0), failure=failure)
    status = step(hear(make_training(), answer), NOW + 22).status
    assert (status.attempts[0].last_step, status.attempts[0].training_seconds) == (6, 9.0)
    assert (status.usage.training_seconds, status.usage.held_seconds) == (9.0, 22.0)


def test_end_of_the_job_counts_what_the_outcome_came_with() -> None:
    answer = make_answer(phase="Finished", step=make_step(10, training_seconds=15.0), outcome=make_outcome())
    status = step(hear(make_training(), answer), NOW + 30).status
    assert (status.usage.training_seconds, status.usage.held_seconds, status.usage.goodput) == (15.0, 30.0, 0.5)


def test_lost_steps_take_their_share_of_the_training_time() -> None:
    training = make_training(checkpoints=(make_record(4),))
    failed = step(hear(training, make_answer(phase="Failed", step=make_step(), failure=make_failure())), LATER)
    assert failed.status.usage.lost_seconds == 0.0
    resumed = hear(failed, make_answer(attempt=2, resumed_from=4, step=make_step(6, training_seconds=3.0)))
    usage = step(resumed, LATER + 20).status.usage
    # One of five steps that took 7.5 s.
    assert (usage.training_seconds, usage.lost_seconds, usage.lost_steps) == (10.5, 1.5, 1)


def test_usage_alone_is_never_written() -> None:
    training = make_training()
    assert decide(training, NOW + 500).status is None
    assert decide(replace(training, answers={}, listening_since=NOW + 500), NOW + 500).status is None


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.floats(0.1, 100.0)), max_size=30))
def test_sums_grow_and_goodput_stays_between_nothing_and_all(history: list[tuple[int, int, float]]) -> None:
    """Attempt after attempt from any step, whatever is folded: counters that fall would be read as a restart."""
    status, now, before = FineTuneJobStatus(), NOW, UsageStatus()
    for begun, steps, seconds in history:
        from_step = min(begun, status.attempts[-1].last_step if status.attempts else 0)
        status = begin_attempt(status, {0: "pod"}, None, SPEC, now)
        status = note_steps(
            status, resumed_from=from_step, last_step=from_step + steps, training_seconds=seconds if steps else 0.0
        )
        now += 101
        status = count_usage(close_attempt(status, AttemptEnd("Stopped", "PodDrained"), now), SPEC, now)
        usage = status.usage
        assert usage.held_seconds > before.held_seconds
        assert usage.training_seconds >= before.training_seconds
        assert before.lost_seconds - 0.01 <= usage.lost_seconds <= usage.training_seconds + 0.01
        assert usage.goodput is not None
        assert 0.0 <= usage.goodput <= 1.0
        before = usage
