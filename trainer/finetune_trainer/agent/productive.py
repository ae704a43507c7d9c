"""Time of optimizer steps that counted: what was done and must be done again is taken off. Pure.

Each attempt is a stretch of steps with the seconds that they took. An attempt that goes on from an earlier step cuts
off what lies beyond it, in proportion.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class _Stretch:
    first: int
    """Step that it began from."""
    last: int
    """Newest step whose seconds are known."""
    seconds: float = 0.0

    def cut(self, step: int) -> None:
        """Forget what was done after this step."""
        if step < self.last:
            done, kept = self.last - self.first, max(0, step - self.first)
            self.seconds = self.seconds * kept / done if kept else 0.0
            self.last = self.first + kept


class ProductiveTime:
    """Of one job, as its rank 0 told it to this agent."""

    def __init__(self) -> None:
        self._stretches: list[_Stretch] = []

    @property
    def seconds(self) -> float:
        """Seconds of steps that counted so far."""
        return sum(stretch.seconds for stretch in self._stretches)

    def begin(self, step: int) -> None:
        """An attempt goes on from this step."""
        for stretch in self._stretches:
            stretch.cut(step)
        self._stretches = [stretch for stretch in self._stretches if stretch.seconds > 0.0]
        self._stretches.append(_Stretch(step, step))

    def reach(self, step: int, seconds: float) -> None:
        """The attempt's steps up to this one have taken so many seconds together."""
        if not self._stretches:
            self.begin(0)
        stretch = self._stretches[-1]
        stretch.last, stretch.seconds = max(step, stretch.first), seconds
