"""What a user sees: every change of every job, with the moment at which a watch brought it; and how late that was."""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.contract.server import JOBS
from tests.scale.api import Api

SHOWN_AS = {"Training": "Running", "Finalizing": "Evaluating", "Publishing": "Publishing", "Finished": "Succeeded"}
"""What an agent says -> what the job's phase becomes."""


@dataclass(frozen=True)
class View:
    """A job as the watch showed it once."""

    at: float
    phase: str
    checkpoint: int
    """Step of the newest; 0: none."""
    failed: int
    """Number of the newest attempt that failed; 0: none."""
    attempts: int
    step: int
    first_step_at: float | None


class Sight:
    """Follows all jobs of one namespace."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.views: defaultdict[str, list[View]] = defaultdict(list)

    async def follow(self) -> None:
        """Look for ever."""
        async for type_, job in self._api.follow(JOBS):
            if type_ != "DELETED":
                self.views[job["metadata"]["name"]].append(_read(job, time.time()))

    def count_phase(self, *phases: str) -> int:
        """Jobs that are in one of these phases now."""
        return sum(views[-1].phase in phases for views in self.views.values())

    async def await_phase(
        self, count: int, *phases: str, seconds: float, tell: Callable[[int], None] = lambda _: None
    ) -> None:
        """Wait until so many jobs are in one of these phases."""
        deadline = time.monotonic() + seconds
        while (there := self.count_phase(*phases)) < count:
            tell(there)
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds:.0f} s in vain: {there} of {count} jobs are {'/'.join(phases)}")
            await asyncio.sleep(0.1)
        tell(there)


def find_lags(views: dict[str, list[View]], said: Iterable[tuple[str, str, Any, float]]) -> dict[str, list[float]]:
    """Seconds from a word to the first sight of it, by kind of word; a word that was never seen is infinitely late."""
    lags: defaultdict[str, list[float]] = defaultdict(list)
    for job, what, value, when in said:
        shows = _make_test(what, value)
        if shows is not None:
            seen = next((view.at for view in views.get(job, ()) if view.at >= when and shows(view)), float("inf"))
            lags[what].append(seen - when)
    return dict(lags)


def find_number_lags(views: Iterable[list[View]], since: float, until: float = math.inf) -> list[float]:
    """How late figures are: from the first step that is not shown yet to the next ones, shown before `until`.

    Script `move` does a step every second, the first at first_step_at. Jobs in their first attempt only.
    """
    lags = []
    for each in views:
        moving = [view for view in each if view.first_step_at is not None and view.attempts == 1]
        for before, after in pairwise(moving):
            is_within = before.at >= since and after.at < until
            if is_within and after.step > before.step and after.phase == "Running":
                lags.append(after.at - ((after.first_step_at or 0.0) + before.step))
    return lags


def find_percentile(values: list[float], share: float) -> float:
    """The value that this share of all does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def _make_test(what: str, value: Any) -> Callable[[View], bool] | None:
    if what == "checkpoint":
        return lambda view: view.checkpoint >= value
    if what == "fail":
        return lambda view: view.failed >= value
    if what == "phase" and value in SHOWN_AS:
        return lambda view: view.phase == SHOWN_AS[value] or view.phase == "Succeeded"
    return None


def _read(job: dict[str, Any], at: float) -> View:
    status = job.get("status", {})
    progress, attempts = status.get("progress", {}), status.get("attempts", [])
    return View(
        at=at,
        phase=status.get("phase", ""),
        checkpoint=max((each["step"] for each in status.get("checkpoints", [])), default=0),
        failed=max((each["number"] for each in attempts if each["result"] == "Failed"), default=0),
        attempts=len(attempts),
        step=progress.get("step", 0),
        first_step_at=progress.get("firstStepAt"),
    )
