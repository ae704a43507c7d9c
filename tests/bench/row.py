"""One row of the bench table."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """A figure, its goal, and how it came about."""

    what: str
    measured: float
    goal: float
    unit: str
    how: str
    samples: dict[str, list[float]] = field(default_factory=dict)

    @property
    def reached(self) -> bool:
        """The goal is reached: smaller is better in every row."""
        return self.measured <= self.goal

    def to_data(self) -> dict[str, Any]:
        """For machines."""
        return {**asdict(self), "reached": self.reached}
