"""What an attempt that shall stop is still given time for, and what is given up, so that all ends within the grace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from finetune_trainer.agent.site import Result, Site
from finetune_trainer.agent.workers import Workers
from finetune_trainer.errors import StoppedError
from finetune_trainer.marks import Mark, Stage

AGREEMENT_SECONDS: Final = 10.0
"""Ranks of which none has moved for so long do not agree on a step any more. Two long steps are no such case."""
POLL_SECONDS: Final = 0.25
SAVING_SHARE: Final = 0.6
"""Share of the grace in which workers agree, save and end, or a publication that was under way is finished."""
UPLOADING_SHARE: Final = 0.3
"""Share of the grace in which their checkpoint is uploaded and read back; the rest is for telling of it."""

_STEP_STAGES: Final[frozenset[Stage]] = frozenset({"data", "forward", "backward", "update", "waiting"})


def find_grace(site: Site) -> float:
    """Seconds between the wish to stop and a pod's end: the shorter of the user's two."""
    spec = site.settings.run.spec
    return float(min(spec.lifecycle.stop_grace_seconds, spec.pod.termination_grace_period_seconds))


async def stop_workers(site: Site, workers: Workers, stop: asyncio.Event, *, alone: bool) -> None:
    """Pass the wish on; return when the workers have had their time or use it for nothing."""
    await stop.wait()
    site.board.enter("Stopping")
    workers.stop()
    asked = time.monotonic()
    deadline = asked + find_grace(site) * SAVING_SHARE
    while (now := time.monotonic()) < deadline:
        marks = workers.read_marks(since=asked)
        if marks and alone and all(map(_has_nothing, marks.values())):
            return
        if marks and is_stuck(marks, now, asked):
            break
        await asyncio.sleep(POLL_SECONDS)
    site.board.warn("the workers did not agree on a step to stop at; the last complete checkpoint counts")


def _has_nothing(mark: Mark) -> bool:
    """Whether a worker has made nothing that could be lost."""
    return mark.stage == "starting" and mark.steps_done == 0


def is_stuck(marks: Mapping[int, Mark], now: float, since: float) -> bool:
    """Whether all ranks stand still within a step, and have since they were asked to stop. Pure."""
    patience = max(AGREEMENT_SECONDS, *(2 * mark.step_seconds for mark in marks.values()))
    last_sign = max(since, *(mark.at for mark in marks.values()))
    return now - last_sign > patience and all(mark.stage in _STEP_STAGES for mark in marks.values())


async def finish_within(work: Coroutine[Any, Any, Result], stop: asyncio.Event, seconds: float, left: str) -> Result:
    """Do something that may be finished although the attempt shall stop, if it takes no longer than this.

    Raises StoppedError, which says what was left, when the time is up.
    """
    task, wish = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, wish}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise StoppedError(left)
        return task.result()
    finally:
        wish.cancel()
        task.cancel()
        await asyncio.gather(task, wish, return_exceptions=True)
