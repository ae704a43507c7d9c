"""Seconds of steps that counted: what an attempt does again is taken off, however far it goes back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from finetune_trainer.agent.productive import ProductiveTime

ATTEMPTS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=8)
"""Step that an attempt begins from (at most the one that was reached), and steps that it does."""


def test_steps_behind_the_checkpoint_are_taken_off_in_proportion() -> None:
    time = ProductiveTime()
    time.begin(0)
    time.reach(10, 30.0)
    time.begin(4)
    assert time.seconds == 12.0
    time.reach(6, 5.0)
    assert time.seconds == 17.0


def test_an_attempt_that_goes_back_beyond_the_former_ones_begin_forgets_both() -> None:
    time = ProductiveTime()
    time.begin(0)
    time.reach(10, 10.0)
    time.begin(8)
    time.reach(12, 4.0)
    time.begin(5)
    assert time.seconds == 5.0


def test_an_attempt_that_did_no_step_leaves_nothing_when_the_next_one_goes_back_beyond_it() -> None:
    time = ProductiveTime()
    time.begin(0)
    time.reach(20, 20.0)
    time.begin(20)
    time.reach(20, 0.0)
    time.begin(10)
    assert time.seconds == 10.0


def test_a_job_that_begins_again_has_nothing_left() -> None:
    time = ProductiveTime()
    time.reach(10, 10.0)
    time.begin(0)
    assert time.seconds == 0.0


@given(ATTEMPTS)
def test_with_steps_of_one_second_it_is_the_number_of_steps_that_stand(attempts: list[tuple[int, int]]) -> None:
    time, reached = ProductiveTime(), 0
    for wished, steps in attempts:
        begins = min(wished, reached)
        time.begin(begins)
        reached = begins + steps
        time.reach(reached, float(steps))
    assert abs(time.seconds - reached) < 1e-9
