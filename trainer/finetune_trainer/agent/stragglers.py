"""Ranks that hold up the others by their own computing. Pure: figures of log intervals in, names out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median_low
from typing import Final

from finetune_contract.progress import Straggler
from finetune_trainer.messages import Logged

SLOW_RATIO: Final = 1.5
"""Times the median above which a rank is slow."""
STEP_SHARE: Final = 0.1
"""What it takes longer than the median must be this much of a step: else nobody waits for it."""
INTERVALS: Final = 3
"""Log intervals in a row after which a slow rank is a straggler."""
MOST_NAMED: Final = 16


class Stragglers:
    """Remembers, over one attempt, for how many log intervals each rank has been slow."""

    def __init__(self) -> None:
        self._slow: Mapping[int, int] = {}

    def judge(self, logged: Logged) -> Logged:
        """The figures with the stragglers named in them."""
        ratios = find_slow(logged.rank_seconds, logged.progress.step_seconds or 0.0)
        self._slow = {rank: self._slow.get(rank, 0) + 1 for rank in ratios}
        lasting = [Straggler(rank=rank, ratio=ratio) for rank, ratio in ratios.items() if self._slow[rank] >= INTERVALS]
        lasting.sort(key=lambda straggler: -straggler.ratio)
        progress = logged.progress.model_copy(update={"stragglers": tuple(lasting[:MOST_NAMED])})
        return logged.model_copy(update={"progress": progress})


def find_slow(rank_seconds: Sequence[float], step_seconds: float) -> dict[int, float]:
    """Rank -> its own seconds over the median of all, of those that were slow in one interval.

    Of an even number of ranks the lower median counts: of two, the faster one.
    """
    if len(rank_seconds) < 2 or (middle := median_low(rank_seconds)) <= 0.0:
        return {}
    return {
        rank: seconds / middle
        for rank, seconds in enumerate(rank_seconds)
        if seconds > SLOW_RATIO * middle and seconds - middle >= STEP_SHARE * step_seconds
    }
