"""Informers: a trimmed copy of the objects in the cluster, kept true by list and watch.

A relist replaces what was known, so that nothing deleted during a gap survives as a ghost. Must not decide what a
change means: it tells `on_change`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, Generic, Protocol, TypeVar

from finetune_operator.clients.cluster import Page, Resource
from finetune_operator.errors import ClusterError, GoneError, UnavailableError
from finetune_operator.snapshot import Key

T = TypeVar("T")
RETRY_SECONDS: Final = 1.0
RETRY_LAST_SECONDS: Final = 10.0
WATCH_SECONDS: Final = 300
log = logging.getLogger(__name__)


class Source(Protocol):
    """Where objects come from: clients.cluster.Cluster."""

    def list_pages(self, resource: Resource, namespace: str | None, *, selector: str = "") -> AsyncIterator[Page]:
        """All objects, page by page."""

    def watch(
        self, resource: Resource, namespace: str | None, *, selector: str, position: int, seconds: int
    ) -> AsyncIterator[dict[str, Any]]:
        """Events after a position."""


class Informer(Generic[T]):
    """The objects of one resource in one namespace (None: in all), trimmed by `read`, grouped by `group`."""

    def __init__(
        self,
        source: Source,
        resource: Resource,
        namespace: str | None,
        *,
        selector: str,
        read: Callable[[dict[str, Any]], T],
        group: Callable[[T], Key],
        on_change: Callable[[Key, T | None, T | None], None],
    ) -> None:
        """`on_change(key, before, after)` is called for each object that came, changed or went (None)."""
        self._source, self._resource, self._namespace = source, resource, namespace
        self._selector, self._read, self._group, self._on_change = selector, read, group, on_change
        self._objects: dict[Key, tuple[int, T]] = {}
        self._groups: defaultdict[Key, dict[Key, T]] = defaultdict(dict)
        self._position = 0
        self._heard = time.monotonic()
        self._failures = 0
        """Tries since anything was heard of the API server."""
        self.trouble: str | None = None
        """Why the last try failed, until something is heard again."""
        self.synced = asyncio.Event()
        """Set once the first list is complete: what is not here does not exist."""

    def get(self, key: Key) -> T | None:
        """One object."""
        found = self._objects.get(key)
        return found[1] if found else None

    def members(self, group: Key) -> Iterator[T]:
        """The objects of one group."""
        return iter(tuple(self._groups.get(group, {}).values()))

    @property
    def silent_seconds(self) -> float:
        """How long nothing was heard of the API server."""
        return time.monotonic() - self._heard

    @property
    def resource(self) -> str:
        """What it holds, in the plural."""
        return self._resource.plural

    def __len__(self) -> int:
        return len(self._objects)

    def put(self, manifest: dict[str, Any]) -> None:
        """Take in the answer to our own write, so that the next decision knows it.

        What the watch has passed already is left to the watch: the object may be deleted by now.
        """
        if _version(manifest) > self._position:
            self._store(manifest)

    async def run(self) -> None:
        """List and watch for ever; errors are logged and retried."""
        while True:
            self._failures += 1
            try:
                if self._position == 0:
                    await self._list()
                await self._watch()
                await self._rest(self._failures - 1)
            except GoneError:
                log.info("position too old, listing again", extra={"resource": self._resource.plural})
                self._position = 0
                await self._rest(self._failures - 1)
            except ClusterError as error:
                self.trouble = str(error)
                log.warning(
                    "list or watch failed, trying again",
                    extra={"resource": self._resource.plural, "error": str(error)},
                )
                await self._rest(self._failures)

    async def _rest(self, failures: int) -> None:
        """Longer after each failure in a row; 0: not at all."""
        if failures > 0:
            ceiling = min(RETRY_SECONDS * 2 ** min(failures, 10), RETRY_LAST_SECONDS)
            await asyncio.sleep(random.uniform(0.5, 1.0) * ceiling)

    async def _list(self) -> None:
        position, seen = 0, set[Key]()
        async for page in self._source.list_pages(self._resource, self._namespace, selector=self._selector):
            self._heard = time.monotonic()
            position = position or page.position
            seen |= self._take(page)
        for key, (version, _) in tuple(self._objects.items()):
            # Newer than the list: our own write, which the watch will confirm.
            if key not in seen and version <= position:
                self._remove(key)
        self._position, self.trouble = position, None
        self.synced.set()

    def _take(self, page: Page) -> set[Key]:
        """Take one page in; returns what stood on it."""
        for manifest in page.items:
            self._store(manifest)
        return {_key(manifest) for manifest in page.items}

    async def _watch(self) -> None:
        seconds = WATCH_SECONDS + random.randint(0, WATCH_SECONDS)
        events = self._source.watch(
            self._resource, self._namespace, selector=self._selector, position=self._position, seconds=seconds
        )
        async for event in events:
            self._heard = time.monotonic()
            self._handle(event["type"], event["object"])
            self._failures, self.trouble = 0, None

    def _handle(self, type_: str, manifest: dict[str, Any]) -> None:
        if type_ == "ERROR":
            error = GoneError if manifest.get("code") == 410 else UnavailableError
            raise error(str(manifest.get("message")))
        if type_ == "DELETED":
            self._remove(_key(manifest))
        elif type_ != "BOOKMARK":
            self._store(manifest)
        self._position = max(self._position, _version(manifest))

    def _store(self, manifest: dict[str, Any]) -> None:
        key, version = _key(manifest), _version(manifest)
        known = self._objects.get(key)
        if known is not None and known[0] >= version:
            return
        after = self._read(manifest)
        self._objects[key] = (version, after)
        self._groups[self._group(after)][key] = after
        self._on_change(key, known[1] if known else None, after)

    def _remove(self, key: Key) -> None:
        known = self._objects.pop(key, None)
        if known is None:
            return
        group = self._group(known[1])
        self._groups[group].pop(key, None)
        if not self._groups[group]:
            del self._groups[group]
        self._on_change(key, known[1], None)


class InformerSet(Generic[T]):
    """One informer for the whole cluster, or one for each watched namespace."""

    def __init__(self, informers: dict[str | None, Informer[T]]) -> None:
        self._informers = informers

    def get(self, key: Key) -> T | None:
        """One object."""
        informer = self._find(key.namespace)
        return informer.get(key) if informer is not None else None

    def members(self, group: Key) -> Iterator[T]:
        """The objects of one group."""
        informer = self._find(group.namespace)
        return informer.members(group) if informer is not None else iter(())

    def put(self, manifest: dict[str, Any]) -> None:
        """Take in the answer to our own write."""
        informer = self._find(manifest["metadata"]["namespace"])
        if informer is not None:
            informer.put(manifest)

    def all(self) -> list[Informer[T]]:
        """Each of them."""
        return list(self._informers.values())

    def _find(self, namespace: str) -> Informer[T] | None:
        return self._informers.get(namespace, self._informers.get(None))


def _key(manifest: dict[str, Any]) -> Key:
    return Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def _version(manifest: dict[str, Any]) -> int:
    return int(manifest["metadata"]["resourceVersion"])
