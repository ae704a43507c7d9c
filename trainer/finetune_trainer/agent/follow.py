"""The agent's life: looks at the annotations, begins and ends attempts, and leaves when it may.

Level-triggered: every look compares what is wished with what is done, so that no edge can be missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from finetune_contract.attempt import Attempt
from finetune_contract.names import ROLE_PREPARE
from finetune_trainer.agent.annotations import POLL_SECONDS, Annotations, read_annotations
from finetune_trainer.agent.attempt import describe_crash, follow_attempt, touch_store
from finetune_trainer.agent.launcher import find_launcher_processes
from finetune_trainer.agent.orphans import reap_orphans
from finetune_trainer.agent.preparation import prepare
from finetune_trainer.agent.site import Site, unless_stopped
from finetune_trainer.agent.story import tell_data, tell_failure
from finetune_trainer.errors import FineTuneError, StoppedError
from finetune_trainer.logs import Event, tell

logger = logging.getLogger(__name__)

OUTCOME_SECONDS = 600.0
"""How long an agent stays after the outcome when nobody tells it to finish."""
TELL_SECONDS = 3.0
"""How long an agent that was told to go by SIGTERM waits for somebody to read its news."""


class Follower:
    """What is being done, beside what is wished."""

    def __init__(self, site: Site, terminated: asyncio.Event, told: asyncio.Event) -> None:
        self._site = site
        self._terminated = terminated
        self._told = told
        self._wishes = Annotations()
        self._number = 0
        self._work: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._zombies: frozenset[int] = frozenset()
        self._ended_at: float | None = None

    async def follow(self) -> None:
        """Do what the annotations wish until the agent may go."""
        if self._site.settings.role == ROLE_PREPARE:
            self._work = asyncio.ensure_future(prepare_only(self._site, self._stop))
        while not self._may_leave():
            self._wishes = read_annotations(self._site.settings.annotations, self._wishes)
            await self._obey()
            self._zombies = reap_orphans(self._zombies, find_launcher_processes())
            await self._pause()
        await self._end_work()

    async def _obey(self) -> None:
        attempt = self._find_newer()
        if self._is_held(attempt.number if attempt else self._number):
            self._ask_to_stop()
            if attempt is not None and self._is_idle and not self._terminated.is_set():
                await self._pass_over(attempt)
        elif attempt is not None:
            await self._begin(attempt)

    def _find_newer(self) -> Attempt | None:
        """The attempt that is wished and not yet followed."""
        attempt = self._wishes.attempt
        if attempt is None or attempt.number <= self._number or self._site.settings.role == ROLE_PREPARE:
            return None
        return attempt

    def _is_held(self, number: int) -> bool:
        """A stop holds attempts up to its number, SIGTERM all of them."""
        stop = self._wishes.stop
        return self._terminated.is_set() or (stop is not None and number <= stop.attempt)

    def _ask_to_stop(self) -> None:
        if not self._stop.is_set():
            reason = self._wishes.stop.reason if self._wishes.stop else "SIGTERM"
            logger.info("asked to stop: %s", reason, extra=tell(Event.STOP_REQUESTED, reason=reason))
            self._stop.set()
            if self._is_idle and not self._site.board.news:
                self._site.board.stopped()

    async def _begin(self, attempt: Attempt) -> None:
        """A new attempt ends the former one's workers and answers its news."""
        await self._adopt(attempt)
        if self._site.settings.node not in attempt.node_indexes:
            logger.info("attempt %d goes on without this node", attempt.number)
            self._site.board.enter("Idle")
            return
        nodes = len(attempt.members)
        logger.info(
            "attempt %d begins, with %s",
            attempt.number,
            "1 node" if nodes == 1 else f"{nodes} nodes",
            extra=tell(Event.ATTEMPT_STARTED, nodes=nodes),
        )
        self._work = asyncio.ensure_future(follow_attempt(self._site, attempt, self._stop))

    async def _pass_over(self, attempt: Attempt) -> None:
        """An attempt that was stopped before it was seen here is told as stopped."""
        logger.info("attempt %d was stopped before it began here", attempt.number)
        await self._adopt(attempt)
        self._stop.set()
        self._site.board.stopped()

    async def _adopt(self, attempt: Attempt) -> None:
        if not self._is_idle:
            logger.warning(
                "attempt %d is given up: another node failed in it or is gone; the job's status says why",
                self._number,
                extra=tell(Event.ATTEMPT_GIVEN_UP),
            )
        await self._end_work()
        self._number = self._site.place.attempt = attempt.number
        self._stop = asyncio.Event()
        self._told.clear()
        self._site.board.begin(attempt)
        self._site.metrics.begin(attempt.number)

    async def _end_work(self) -> None:
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
            self._work = None

    @property
    def _is_idle(self) -> bool:
        return self._work is None or self._work.done()

    def _may_leave(self) -> bool:
        """On finish at once; ended by SIGTERM once somebody has read the news; long after the outcome in any case."""
        if self._wishes.finish:
            return True
        ended = self._is_idle and (self._terminated.is_set() or self._site.board.outcome is not None)
        if not ended:
            self._ended_at = None
            return False
        self._ended_at = self._ended_at or time.monotonic()
        seconds = time.monotonic() - self._ended_at
        if self._terminated.is_set():
            return self._told.is_set() or seconds > TELL_SECONDS
        return seconds > OUTCOME_SECONDS

    async def _pause(self) -> None:
        if self._terminated.is_set():
            await asyncio.sleep(POLL_SECONDS)
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._terminated.wait(), POLL_SECONDS)


async def prepare_only(site: Site, stop: asyncio.Event) -> None:
    """The life of a prepare pod: prepare, tell, wait for leave. Raises only CancelledError."""
    try:
        await unless_stopped(touch_store(site, None), stop)
        pointer = await unless_stopped(prepare(site), stop)
        site.board.set_data(pointer.summary)
        tell_data(pointer.summary)
        site.board.prepared()
    except StoppedError:
        site.board.stopped()
    except FineTuneError as error:
        failure = error.to_failure(site.settings.node)
        tell_failure("preparation", failure)
        site.board.fail(failure)
    except Exception as error:
        logger.exception("preparation failed: %s", error, extra=tell(Event.ATTEMPT_FAILED))
        site.board.fail(describe_crash(error, site.settings.node))
