"""From figures to rows: what was promised, what was measured, and the sizes side by side. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.scale.measure import Figures
from tests.scale.sight import find_percentile


@dataclass(frozen=True)
class Promise:
    """A figure with a goal."""

    what: str
    measured: float
    goal: float
    unit: str
    at_least: bool = False
    """More is better."""

    @property
    def kept(self) -> bool:
        """The goal is reached; what was not measured is not."""
        return self.measured >= self.goal if self.at_least else self.measured <= self.goal

    def to_data(self) -> dict[str, Any]:
        """For machines."""
        return {"what": self.what, "measured": self.measured, "goal": self.goal, "unit": self.unit, "kept": self.kept}


def judge_rate(figures: Figures) -> list[Promise]:
    """Apply -> all pods created."""
    stage = figures.stages["apply -> pods created"]
    name = f"{figures.jobs:,} jobs x {figures.nodes} nodes applied at once -> all pods created"
    return [Promise(name, figures.jobs / stage.seconds, 13.0, "jobs/s", at_least=True)]


def judge_growth(figures: Figures) -> list[Promise]:
    """Memory, and a restart that finds nothing new."""
    size = f"{figures.jobs:,} jobs, {figures.jobs * figures.nodes:,} pods"
    return [
        Promise(f"{size}: memory, settled", figures.memory["settled"].now, 200.0, "MiB"),
        Promise(f"{size}: memory, peak of a restart", figures.memory["restarted"].peak, 350.0, "MiB"),
        Promise(f"{size}: restart without news, writes", sum(figures.writes["restart"].values()), 0, ""),
        Promise(f"{size}: restart, ready after", figures.ready_seconds, 10.0, "s"),
    ]


def judge_lags(figures: Figures) -> list[Promise]:
    """How late a user sees what agents say."""
    size = f"{figures.jobs:,} running jobs x {figures.nodes} nodes: status lag p99"
    words = {"phase": "phase and conditions", "fail": "attempts", "checkpoint": "checkpoints"}
    promises = [
        Promise(f"{size}, {name}", find_percentile(figures.lags.get(what, []), 0.99), 5.0, "s")
        for what, name in words.items()
    ]
    moves = {"numbers": "figures", "numbers while jobs end": "figures while jobs end"}
    return promises + [
        Promise(f"{size}, {name}", find_percentile(figures.lags.get(what, []), 0.99), 20.0, "s")
        for what, name in moves.items()
    ]


def list_costs(figures: Figures) -> dict[str, float]:
    """What one job costs in this size: equal numbers in all sizes are linear growth."""
    jobs, rows = figures.jobs, {}
    for name, stage in figures.stages.items():
        rows[f"{name}: seconds"] = stage.seconds
        rows[f"{name}: operator, CPU ms a job"] = 1000 * _find_operator(stage.cpu) / jobs
        rows[f"{name}: the rest, CPU ms a job"] = 1000 * (sum(stage.cpu.values()) - _find_operator(stage.cpu)) / jobs
    for name, memory in figures.memory.items():
        rows[f"{name}: memory, MiB"] = memory.now
        rows[f"{name}: peak, MiB"] = memory.peak
    for name, writes in figures.writes.items():
        rows[f"{name}: writes a job"] = sum(writes.values()) / jobs
    rows["restart: ready after, s"] = figures.ready_seconds
    rows["restart: all agents heard after, s"] = figures.work_seconds
    return rows


def _find_operator(cpu: dict[str, float]) -> float:
    return sum(seconds for name, seconds in cpu.items() if name.startswith("operator"))
