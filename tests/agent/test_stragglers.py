"""A rank that is slow by its own computing is named, and one slow interval names nobody."""

from __future__ import annotations

import pytest

from finetune_contract.progress import StepProgress, Straggler
from finetune_trainer.agent.story import tell_stragglers
from finetune_trainer.agent.stragglers import Stragglers, find_slow
from finetune_trainer.messages import Logged


def _log(*rank_seconds: float, step_seconds: float = 1.0) -> Logged:
    return Logged(
        progress=StepProgress(step=10, total_steps=20, step_seconds=step_seconds),
        tokens_total=0,
        samples_total=0,
        data_wait_seconds=0.0,
        save_stall_seconds=0.0,
        rank_seconds=rank_seconds,
    )


@pytest.mark.parametrize(
    ("rank_seconds", "slow"),
    [
        ((), {}),
        ((3.0,), {}),
        ((1.0, 1.0, 1.1, 0.9), {}),
        ((1.0, 1.5), {}),
        ((1.0, 2.0), {1: 2.0}),
        ((4.0, 1.0, 1.0, 2.0), {0: 4.0, 3: 2.0}),
        ((0.0, 0.0), {}),
        ((0.01, 0.05), {}),
    ],
)
def test_slow_is_what_takes_half_as_long_again_and_holds_up_a_step(
    rank_seconds: tuple[float, ...], slow: dict[int, float]
) -> None:
    assert find_slow(rank_seconds, step_seconds=1.0) == slow


def test_a_rank_is_named_after_three_slow_intervals_in_a_row() -> None:
    stragglers = Stragglers()
    intervals = [(1.0, 2.0), (1.0, 2.0), (1.0, 1.0), (1.0, 2.0), (1.0, 2.0), (1.0, 3.0), (1.0, 1.0)]
    named = [stragglers.judge(_log(*interval)).progress.stragglers for interval in intervals]
    assert named == [(), (), (), (), (), (Straggler(rank=1, ratio=3.0),), ()]


def test_the_slowest_of_many_are_named_first() -> None:
    stragglers = Stragglers()
    seconds = [1.0] * 21 + [2.0 + rank for rank in range(20)]
    for _ in range(3):
        named = stragglers.judge(_log(*seconds)).progress.stragglers
    assert [straggler.rank for straggler in named] == list(range(40, 24, -1))


def test_a_straggler_is_told_once_as_long_as_it_is_one(caplog: pytest.LogCaptureFixture) -> None:
    known: frozenset[int] = frozenset()
    for ranks in ((1,), (1, 2), (2,), (1,)):
        known = tell_stragglers([Straggler(rank=rank, ratio=2.0) for rank in ranks], known)
    assert [record.args[0] for record in caplog.records if record.args] == [1, 2, 1]  # type: ignore[index]
