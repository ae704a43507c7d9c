"""The work queue of client-go: a key that is added many times is handled once, and never twice at a time.

Delayed and rate-limited re-adds included, and a lane for what cannot wait. Must not know what a key stands for.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)
BACKOFF_FIRST_SECONDS: Final = 0.005
BACKOFF_LAST_SECONDS: Final = 60.0


class QueueObserver(Protocol):
    """Who counts."""

    def added(self, depth: int) -> None:
        """A key came in; `depth` keys wait."""

    def taken(self, depth: int, waited: float) -> None:
        """A key went to a worker after `waited` seconds."""

    def retried(self) -> None:
        """A key comes back after an error."""


class WorkQueue(Generic[K]):
    """First in, first out in each of two lanes; a key waits or is processed, and then perhaps dirty again."""

    def __init__(self, observer: QueueObserver | None = None, *, patient: int | None = None) -> None:
        """`patient`: at most so many keys without hurry are worked on at a time (None: any number).

        So they take what is left of a slow API server, and no more: a key in a hurry finds it free.
        """
        self._urgent: OrderedDict[K, None] = OrderedDict()
        self._waiting: OrderedDict[K, None] = OrderedDict()
        self._dirty: dict[K, float] = {}
        self._hurried: set[K] = set()
        """Those of the dirty ones that go before the others."""
        self._processing: set[K] = set()
        self._patient: set[K] = set()
        """Those of them that were in no hurry."""
        self._limit = patient
        self._failures: Counter[K] = Counter()
        self._timers: dict[tuple[K, bool], tuple[float, asyncio.TimerHandle]] = {}
        """By key and lane: a wish without hurry must not stand in for one with."""
        self._wake = asyncio.Event()
        self._closed = False
        self._observer = observer

    def __len__(self) -> int:
        return len(self._urgent) + len(self._waiting)

    @property
    def oldest_seconds(self) -> float:
        """How long the longest waiting key has waited."""
        now = time.monotonic()
        return now - min((self._dirty[key] for key in (*self._urgent, *self._waiting)), default=now)

    def add(self, key: K, *, first: bool = False) -> None:
        """Have the key handled; at once if nobody works on it, else afterwards. `first`: before those without hurry."""
        if first and key not in self._hurried:
            self._hurried.add(key)
            self._waiting.pop(key, None)
        elif key in self._dirty:
            return
        self._dirty.setdefault(key, time.monotonic())
        if key not in self._processing:
            self._push(key)

    def add_after(self, key: K, seconds: float, *, first: bool = False) -> None:
        """Have the key handled in so many seconds; of several such wishes for one lane the earliest counts."""
        due = asyncio.get_running_loop().time() + seconds
        planned = self._timers.get((key, first))
        if planned is not None:
            if planned[0] <= due:
                return
            planned[1].cancel()
        self._timers[key, first] = (due, asyncio.get_running_loop().call_at(due, self._fire, key, first))

    def retry(self, key: K, at_least: float = 0.0) -> float:
        """Have the key handled again after an error, later each time; returns in how many seconds.

        In a hurry: nobody knows any more for which lane the pass was that failed.
        """
        ceiling = min(BACKOFF_FIRST_SECONDS * 2.0 ** min(self._failures[key], 20), BACKOFF_LAST_SECONDS)
        self._failures[key] += 1
        if self._observer is not None:
            self._observer.retried()
        seconds: float = max(at_least, ceiling * random.uniform(0.5, 1.0))
        self.add_after(key, seconds, first=True)
        return seconds

    def forget(self, key: K) -> None:
        """The key went well: its next error starts from the shortest delay."""
        self._failures.pop(key, None)

    def drop(self, key: K) -> None:
        """The thing behind the key is gone: no timer wakes it any more."""
        self.forget(key)
        for first in (False, True):
            planned = self._timers.pop((key, first), None)
            if planned is not None:
                planned[1].cancel()

    async def get(self) -> K | None:
        """The next key; the caller owns it until `done`. None: the queue is closed."""
        while not self._has_next() and not self._closed:
            self._wake.clear()
            await self._wake.wait()
        if self._closed:
            return None
        key, _ = (self._urgent or self._waiting).popitem(last=False)
        if key not in self._hurried:
            self._patient.add(key)
        added = self._dirty.pop(key)
        self._hurried.discard(key)
        self._processing.add(key)
        if self._observer is not None:
            self._observer.taken(len(self), time.monotonic() - added)
        return key

    def is_patient(self, key: K) -> bool:
        """Whether the key, which is worked on, was in no hurry."""
        return key in self._patient

    def done(self, key: K) -> None:
        """Give the key back; if it was added in the meantime, it waits again."""
        self._processing.discard(key)
        self._patient.discard(key)
        if key in self._dirty:
            self._push(key)
        elif self._has_next():
            self._wake.set()

    def count_waiting_from_now(self) -> None:
        """What waits has waited for nobody so far."""
        self._dirty = dict.fromkeys(self._dirty, time.monotonic())

    def close(self) -> None:
        """Nothing is handed out any more; what was handed out may be finished."""
        self._closed = True
        self._wake.set()

    def _has_next(self) -> bool:
        """Somebody may take a key now."""
        return bool(self._urgent) or bool(self._waiting and (self._limit is None or len(self._patient) < self._limit))

    def _push(self, key: K) -> None:
        (self._urgent if key in self._hurried else self._waiting)[key] = None
        self._wake.set()
        if self._observer is not None:
            self._observer.added(len(self))

    def _fire(self, key: K, first: bool) -> None:
        self._timers.pop((key, first), None)
        self.add(key, first=first)
