"""Asking the agents: `GET /progress` of each trainer pod, round and round, at the pace that pace.py allows.

An agent that does not answer is unknown, never a verdict. Must not decide what an answer means.

Thousands of answers are held, those of one job are looked at: they are kept compressed, a twentieth of their size
as documents.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple, cast

import aiohttp
from pydantic import ValidationError

from finetune_contract import names
from finetune_contract.progress import AgentPhase, Progress, StepProgress
from finetune_operator.clients.pace import INTERVAL_SECONDS, TRUSTED, Pace, choose_group
from finetune_operator.clients.queue import WorkQueue
from finetune_operator.errors import AgentError
from finetune_operator.snapshot import Answer, Key, Pod

TIMEOUT_SECONDS: Final = 2.0
ASKERS: Final = 16
"""Agents asked at a time."""
KEPT_SECONDS: Final = 30.0
"""A connection that is not used again for so long is closed: longer than figures wait to be asked for once more."""
KEPT: Final = 1024
"""Connections that are kept, at most: each costs some 10 kB, and a new one more than the question."""
DUE: Final = 0.8
"""Share of the time between two questions: who answered less long ago, out of his turn, has his turn later."""
COMPRESSION: Final = 1
"""Fastest."""
REMEMBERED: Final = 64
"""Answers at some 10 kB that are kept as they were read."""
_MOVING: Final[Any] = {
    "at": True,
    "quiet_until": True,
    "ranks": True,
    "metrics": True,
    "preparation": {"done", "total"},
    "step": set(StepProgress.model_fields) - {"first_step_at"},
}
_FIGURES: Final[Any] = {"step": True, "metrics": True, "ranks": {"__all__": {"rank", "step"}}}
log = logging.getLogger(__name__)


def make_agent_url(ip: str, port: int) -> str:
    """Where the agent of a pod answers; an IPv6 address stands in brackets."""
    return f"http://{f'[{ip}]' if ':' in ip else ip}:{port}{names.PATH_PROGRESS}"


@dataclass(slots=True)
class _Heard:
    packed: bytes
    """The answer's text, compressed."""
    essence: int
    """Hash of what wakes the job."""
    figures: int
    """Hash of the figures that stand in the status."""
    moment: tuple[int, AgentPhase]
    since: float
    """When it was first heard at this moment; seconds since 1970, as the others."""
    told: float
    """When these news were first heard."""
    last: float
    """When it last answered; of a silent one, when it was first asked in vain."""
    quiet: float = 0.0
    """For how long it expected nothing but steps when it answered last, in seconds."""

    @property
    def quiet_until(self) -> float:
        """As long as this it is believed."""
        return self.last + TRUSTED * self.quiet

    def read_text(self) -> bytes:
        """The answer as it came."""
        return zlib.decompress(self.packed)


class _Sessions(NamedTuple):
    kept: aiohttp.ClientSession
    """Leaves its connections open for the next question."""
    once: aiohttp.ClientSession
    """Closes each by itself: not every agent does when it is asked to."""


class Agents:
    """The last answer of every agent, and the round that keeps them fresh."""

    def __init__(
        self,
        find_pod: Callable[[Key], Pod | None],
        on_news: Callable[[Pod], None],
        *,
        on_figures: Callable[[Pod], None] = lambda pod: None,
        on_silence: Callable[[Pod], None] = lambda pod: None,
        count: Callable[[str], None] = lambda result: None,
        port: int = names.AGENT_PORT,
        interval: float = INTERVAL_SECONDS,
        fresh: float = INTERVAL_SECONDS,
    ) -> None:
        """`find_pod` gives a pod that is to be asked, None where there is nothing to ask any more.

        `on_news` is called when an agent says what may change the job, `on_figures` when only its figures moved,
        `on_silence` when a question fails and the last one did not; `count` after each question, with `answered` or
        `silent`. `interval` is between two questions, where there are few agents; for `fresh` seconds an answer is as
        good as a new one.
        """
        self._find_pod, self._count = find_pod, count
        self._on_news, self._on_figures, self._on_silence = on_news, on_figures, on_silence
        self._port = port
        self._pace, self._fresh_seconds = Pace(interval), fresh
        self._queue: WorkQueue[Key] = WorkQueue()
        self._silent_queue: WorkQueue[Key] = WorkQueue()
        self._silent: set[Key] = set()
        """Agents whose last answer did not come; they wait for each other, and nobody waits for them."""
        self._heard: dict[Key, _Heard] = {}
        self._kept: set[Key] = set()
        """Agents whose connections stay open."""
        self._sessions: _Sessions | None = None

    def ask(self, key: Key) -> None:
        """Ask this pod's agent at once, before those whose turn it is, and from then on again and again."""
        self._choose_queue(key).add(key, first=True)

    async def refresh(self, key: Key) -> None:
        """Ask this pod's agent and wait for it, unless it answered just now, is silent, or was never heard.

        `on_figures` is not called: whoever waits looks for himself.
        """
        pod = self._find_pod(key)
        is_old = self._fresh_seconds < self._measure_age(key) < math.inf
        if self._sessions is not None and pod is not None and is_old and key not in self._silent:
            await self._ask(self._sessions, pod, on_figures=lambda _: None)
            if key not in self._silent:
                # It may expect something sooner than it did.
                self._plan(key, is_first=False)

    def get(self, key: Key) -> Answer | None:
        """What the agent said last. As long as no question failed, that is what it says now and goes on saying."""
        heard = self._heard.get(key)
        if heard is None:
            return None
        last = heard.last if key in self._silent else math.inf
        return Answer(_read_text(heard.read_text()), heard.since, last, heard.told)

    def forget(self, key: Key) -> None:
        """The pod is gone."""
        self._heard.pop(key, None)
        self._silent.discard(key)
        self._kept.discard(key)
        self._pace.forget(key)
        for queue in (self._queue, self._silent_queue):
            queue.drop(key)

    async def run(self) -> None:
        """Ask for ever."""
        async with (
            _open_session(aiohttp.TCPConnector(limit=2 * ASKERS, keepalive_timeout=KEPT_SECONDS)) as kept,
            _open_session(aiohttp.TCPConnector(limit=2 * ASKERS, force_close=True)) as once,
            asyncio.TaskGroup() as group,
        ):
            self._sessions = _Sessions(kept, once)
            for _ in range(ASKERS):
                group.create_task(self._ask_forever(self._sessions, self._queue))
                group.create_task(self._ask_forever(self._sessions, self._silent_queue))

    def _choose_queue(self, key: Key) -> WorkQueue[Key]:
        return self._silent_queue if key in self._silent else self._queue

    async def _ask_forever(self, sessions: _Sessions, queue: WorkQueue[Key]) -> None:
        while (key := await queue.get()) is not None:
            is_first = key not in self._heard
            try:
                pod = self._find_pod(key)
                if pod is not None and not (queue.is_patient(key) and self._has_answered(key)):
                    await self._ask(sessions, pod, on_figures=self._on_figures)
            except Exception:
                # What one agent says must not end the round of the others.
                log.exception("agent cannot be heard", extra={"namespace": key.namespace, "pod": key.name})
            finally:
                self._plan(key, is_first=is_first)
                queue.done(key)

    def _has_answered(self, key: Key) -> bool:
        """It was asked out of its turn not long ago (refresh), and what it expected then is not due."""
        heard, now = self._heard.get(key), time.time()
        if heard is None or key in self._silent or (heard.quiet > 0.0 and heard.quiet_until <= now):
            return False
        return now - heard.last < DUE * self._pace.find_seconds(key)

    def _measure_age(self, key: Key) -> float:
        """Seconds since its last answer."""
        heard = self._heard.get(key)
        return time.time() - heard.last if heard is not None else math.inf

    def _plan(self, key: Key, *, is_first: bool) -> None:
        """Ask again in a while; those that are asked for the first time together are spread over the round."""
        pod = self._find_pod(key)
        if pod is None:
            self._pace.forget(key)
            return
        heard = self._heard.get(key)
        spread = random.uniform(0.1, 1.0) if is_first else random.uniform(0.9, 1.1)
        if heard is None or key in self._silent:
            seconds = self._pace.place(key, "moving") * spread
            self._choose_queue(key).add_after(key, seconds)
            return
        now = time.time()
        quiet, age = heard.quiet_until - now, now - heard.last
        is_quiet = quiet > self._pace.interval
        seconds = self._pace.place(key, choose_group(pod, *heard.moment, is_quiet=is_quiet)) * spread
        seconds = seconds - age if age < seconds else seconds
        self._queue.add_after(key, min(seconds, quiet) if is_quiet else seconds)

    async def _ask(self, sessions: _Sessions, pod: Pod, *, on_figures: Callable[[Pod], None]) -> None:
        before, asked = self._heard.get(pod.key), time.time()
        try:
            session = self._choose_session(sessions, pod.key, before)
            text = await fetch_answer(session, make_agent_url(pod.ip, self._port))
            before = self._heard.get(pod.key)
            progress = read_answer(text) if before is None or before.read_text() != text else None
        except AgentError as error:
            log.debug(
                "agent is silent",
                extra={"namespace": pod.key.namespace, "job": pod.job, "pod": pod.key.name, "error": str(error)},
            )
            self._count("silent")
            self._kept.discard(pod.key)
            if pod.key not in self._silent:
                self._silent.add(pod.key)
                if before is not None:
                    # It was not asked since its last answer: that long it was not silent.
                    before.last = asked
                self._on_silence(pod)
            return
        self._silent.discard(pod.key)
        self._count("answered")
        now = time.time()
        if before is not None and progress is None:
            before.last = now
        elif progress is not None and _is_of(progress, pod):
            self._take(pod, text, progress, now, on_figures)

    def _choose_session(self, sessions: _Sessions, key: Key, before: _Heard | None) -> aiohttp.ClientSession:
        """Its connection waits for the next question where the last one was not long ago, and not too many others wait.

        Of a first question it is not known how soon the second follows.
        """
        if before is None or time.time() - before.last > KEPT_SECONDS:
            self._kept.discard(key)
        elif len(self._kept) < KEPT:
            self._kept.add(key)
        return sessions.kept if key in self._kept else sessions.once

    def _take(self, pod: Pod, text: bytes, progress: Progress, now: float, on_figures: Callable[[Pod], None]) -> None:
        """Keep an answer that is not the last one, and tell what is new in it."""
        before = self._heard.get(pod.key)
        moment = (progress.attempt, cast("AgentPhase", sys.intern(progress.phase)))
        essence, figures = _hash_essence(progress), _hash_figures(progress)
        is_news = before is None or before.essence != essence
        since = before.since if before is not None and before.moment == moment else now
        told = now if before is None or is_news else before.told
        self._heard[pod.key] = _Heard(
            zlib.compress(text, COMPRESSION),
            essence,
            figures,
            moment,
            since=since,
            told=told,
            last=now,
            quiet=progress.quiet_until - progress.at if progress.quiet_until is not None else 0.0,
        )
        if is_news:
            self._on_news(pod)
        elif before is not None and before.figures != figures:
            on_figures(pod)


async def fetch_answer(session: aiohttp.ClientSession, url: str) -> bytes:
    """One answer as it came; AgentError where there is none."""
    try:
        async with session.get(url) as response:
            if response.status != 200:
                raise AgentError(f"{url} answered {response.status}")
            return await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise AgentError(f"{url} did not answer as agreed: {error!r}") from error


def read_answer(text: bytes) -> Progress:
    """An answer in the contract's words; AgentError where it is none."""
    try:
        return _read_text(text)
    except ValidationError as error:
        raise AgentError(f"an agent did not answer as agreed: {error!r}") from error


@lru_cache(REMEMBERED)
def _read_text(text: bytes) -> Progress:
    """What was heard just now is looked at by the job's pass in a moment."""
    return Progress.from_json(text)


def _open_session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    return aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())


def _is_of(progress: Progress, pod: Pod) -> bool:
    """Another pod may have this address by now."""
    return (progress.job_uid, progress.node, progress.role) == (pod.job_uid, pod.node_index, pod.role)


def _hash_essence(progress: Progress) -> int:
    """Of what wakes the job: everything but heartbeats and figures that move all the time."""
    return hash(progress.model_dump_json(exclude=_MOVING))


def _hash_figures(progress: Progress) -> int:
    """Of what moves all the time and stands in the status, at a pace of its own."""
    return hash(progress.model_dump_json(include=_FIGURES))
