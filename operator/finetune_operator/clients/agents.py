"""Asking the agents: `GET /progress` of each trainer pod, round and round.

An agent that does not answer is unknown, never a verdict. Must not decide what an answer means.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Final

import aiohttp
from pydantic import ValidationError

from finetune_contract import names
from finetune_contract.progress import Progress, StepProgress
from finetune_operator.clients.queue import WorkQueue
from finetune_operator.errors import AgentError
from finetune_operator.snapshot import Answer, Key, Pod

INTERVAL_SECONDS: Final = 3.0
TIMEOUT_SECONDS: Final = 2.0
ASKERS: Final = 16
"""Agents asked at a time."""
log = logging.getLogger(__name__)


def make_agent_url(ip: str, port: int) -> str:
    """Where the agent of a pod answers; an IPv6 address stands in brackets."""
    return f"http://{f'[{ip}]' if ':' in ip else ip}:{port}{names.PATH_PROGRESS}"


class Agents:
    """The last answer of every agent, and the round that keeps them fresh."""

    def __init__(
        self,
        find_pod: Callable[[Key], Pod | None],
        on_change: Callable[[Pod], None],
        *,
        port: int = names.AGENT_PORT,
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        """`find_pod` gives a pod that is to be asked, None where there is nothing to ask any more."""
        self._find_pod, self._on_change, self._port, self._interval = find_pod, on_change, port, interval
        self._queue: WorkQueue[Key] = WorkQueue()
        self._silent_queue: WorkQueue[Key] = WorkQueue()
        self._silent: set[Key] = set()
        """Agents whose last answer did not come; they wait for each other, and nobody waits for them."""
        self._answers: dict[Key, Answer] = {}

    def ask(self, key: Key) -> None:
        """Ask this pod's agent at once, and from then on again and again."""
        self._choose_queue(key).add(key)

    def get(self, key: Key) -> Answer | None:
        """What the agent said last."""
        return self._answers.get(key)

    def forget(self, key: Key) -> None:
        """The pod is gone."""
        self._answers.pop(key, None)
        self._silent.discard(key)
        for queue in (self._queue, self._silent_queue):
            queue.drop(key)

    async def run(self) -> None:
        """Ask for ever."""
        connector = aiohttp.TCPConnector(limit=2 * ASKERS)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, asyncio.TaskGroup() as group:
            for _ in range(ASKERS):
                group.create_task(self._ask_forever(session, self._queue))
                group.create_task(self._ask_forever(session, self._silent_queue))

    def _choose_queue(self, key: Key) -> WorkQueue[Key]:
        return self._silent_queue if key in self._silent else self._queue

    async def _ask_forever(self, session: aiohttp.ClientSession, queue: WorkQueue[Key]) -> None:
        while (key := await queue.get()) is not None:
            try:
                pod = self._find_pod(key)
                if pod is not None:
                    await self._ask(session, pod)
            except Exception:
                # What one agent says must not end the round of the others.
                log.exception("agent cannot be heard", extra={"pod": str(key)})
            finally:
                if self._find_pod(key) is not None:
                    self._choose_queue(key).add_after(key, self._interval * random.uniform(0.9, 1.1))
                queue.done(key)

    async def _ask(self, session: aiohttp.ClientSession, pod: Pod) -> None:
        try:
            progress = await fetch_progress(session, make_agent_url(pod.ip, self._port))
        except AgentError as error:
            log.debug("agent is silent", extra={"pod": str(pod.key), "error": str(error)})
            self._silent.add(pod.key)
            return
        self._silent.discard(pod.key)
        # Another pod may have this address by now.
        if progress.job_uid != pod.job_uid or progress.node != pod.node_index or progress.role != pod.role:
            return
        before = self._answers.get(pod.key)
        now = time.time()
        goes_on = before is not None and _moment(before.progress) == _moment(progress)
        since = before.since if before is not None and goes_on else now
        self._answers[pod.key] = Answer(progress, since, now)
        if before is None or _essence(before.progress) != _essence(progress):
            self._on_change(pod)


async def fetch_progress(session: aiohttp.ClientSession, url: str) -> Progress:
    """One answer; AgentError where there is none, or none in the contract's words."""
    try:
        async with session.get(url) as response:
            if response.status != 200:
                raise AgentError(f"{url} answered {response.status}")
            return Progress.from_json(await response.read())
    except (aiohttp.ClientError, TimeoutError, ValidationError) as error:
        raise AgentError(f"{url} did not answer as agreed: {error!r}") from error


def _moment(progress: Progress) -> tuple[int, str]:
    return progress.attempt, progress.phase


def _essence(progress: Progress) -> Progress:
    """What wakes the job: everything but heartbeats and figures that move all the time and have a pace of their own."""
    stage = progress.preparation and progress.preparation.model_copy(update={"done": 0, "total": 0})
    step = StepProgress(first_step_at=progress.step.first_step_at)
    return progress.model_copy(update={"at": 0.0, "ranks": (), "metrics": {}, "preparation": stage, "step": step})
