"""Informers stay true whatever happens to their list and watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from finetune_operator.clients import informers
from finetune_operator.clients.cluster import PODS
from finetune_operator.clients.informers import Informer, InformerSet
from finetune_operator.errors import GoneError, UnavailableError
from finetune_operator.snapshot import Key
from tests.control_plane.faults import FakeCluster


def make_manifest(name: str, job: str = "spam", **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ml", "job": job, **metadata}}


def read(manifest: dict[str, Any]) -> Key:
    return Key(manifest["metadata"]["job"], manifest["metadata"]["name"])


class Watched:
    """An informer and what it said."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.changes: list[tuple[str, bool, bool]] = []
        self.informer: Informer[Key] = Informer(
            cluster,
            PODS,
            None,
            selector="",
            read=read,
            group=lambda seen: Key("ml", seen.namespace),
            on_change=self._note,
        )

    def names(self, job: str = "spam") -> set[str]:
        return {seen.name for seen in self.informer.members(Key("ml", job))}

    async def until(self, look: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not look():
                await asyncio.sleep(0.001)

    def _note(self, key: Key, before: Key | None, after: Key | None) -> None:
        self.changes.append((key.name, before is not None, after is not None))


@asynccontextmanager
async def watching(cluster: FakeCluster) -> AsyncIterator[Watched]:
    watched = Watched(cluster)
    opened = asyncio.create_task(cluster.opened())
    task = asyncio.create_task(watched.informer.run())
    await opened
    try:
        yield watched
    finally:
        task.cancel()


@pytest.fixture(autouse=True)
def _retry_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(informers, "RETRY_LAST_SECONDS", 0.001)


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the failures in a row before each pause; nobody pauses."""
    rests: list[int] = []

    async def rest(self: Informer[Any], failures: int) -> None:
        rests.append(failures)

    monkeypatch.setattr(Informer, "_rest", rest)
    return rests


async def test_list_is_read_in_pages_before_it_counts_as_complete() -> None:
    cluster = FakeCluster()
    for name in "abcde":
        cluster.store(PODS, make_manifest(name))
    watched = Watched(cluster)
    assert not watched.informer.synced.is_set()
    async with watching(cluster) as watched:
        assert watched.informer.synced.is_set()
        assert watched.names() == set("abcde")
        assert cluster.calls == ["list pods"] * 3 + ["watch pods 6"]


async def test_events_are_followed_and_grouped() -> None:
    cluster = FakeCluster()
    async with watching(cluster) as watched:
        cluster.store(PODS, make_manifest("a"))
        cluster.store(PODS, make_manifest("b", job="other"))
        cluster.store(PODS, make_manifest("a"))
        cluster.remove(PODS, Key("ml", "a"))
        await watched.until(lambda: len(watched.changes) == 4)
        assert watched.changes == [("a", False, True), ("b", False, True), ("a", True, True), ("a", True, False)]
        assert (watched.names(), watched.names("other")) == (set(), {"b"})


async def test_bookmark_moves_the_position_of_the_next_watch() -> None:
    cluster = FakeCluster()
    async with watching(cluster):
        cluster.send({"type": "BOOKMARK", "object": make_manifest("", resourceVersion="77")})
        cluster.send(None)
        await cluster.opened()
        assert cluster.calls[-1] == "watch pods 77"


@pytest.mark.parametrize(
    "gap",
    [GoneError("too old"), {"type": "ERROR", "object": {"code": 410, "message": "too old"}}],
)
async def test_relist_after_a_gap_drops_ghosts_and_finds_what_was_missed(gap: Any) -> None:
    cluster = FakeCluster()
    for name in "abc":
        cluster.store(PODS, make_manifest(name))
    async with watching(cluster) as watched:
        cluster.remove(PODS, Key("ml", "a"), silently=True)
        cluster.store(PODS, make_manifest("d"), silently=True)
        cluster.send(gap)
        await cluster.opened()
        assert watched.names() == set("bcd")
        assert ("a", True, False) in watched.changes


@pytest.mark.parametrize(
    "fault",
    [UnavailableError("reset"), {"type": "ERROR", "object": {"code": 500, "message": "etcd"}}],
)
async def test_watch_goes_on_after_a_fault_from_where_it_was(fault: Any) -> None:
    cluster = FakeCluster()
    async with watching(cluster) as watched:
        cluster.store(PODS, make_manifest("a"))
        cluster.send(fault)
        await cluster.opened()
        assert cluster.calls[-1] == "watch pods 2"
        assert watched.names() == {"a"}


async def test_failing_list_is_tried_again() -> None:
    cluster = FakeCluster()
    cluster.store(PODS, make_manifest("a"))
    cluster.failures = [UnavailableError("429"), GoneError("continue token"), UnavailableError("500")]
    async with watching(cluster) as watched:
        assert watched.names() == {"a"}


async def test_api_server_that_calls_every_position_too_old_is_asked_with_longer_and_longer_pauses(
    rests: list[int],
) -> None:
    cluster = FakeCluster()
    cluster.failures = [GoneError("too old")] * 4
    async with watching(cluster):
        assert rests == [0, 1, 2, 3]


async def test_pause_is_short_again_once_the_api_server_was_heard(rests: list[int]) -> None:
    cluster = FakeCluster()
    async with watching(cluster) as watched:
        for name in "abc":
            cluster.store(PODS, make_manifest(name))
            cluster.send(UnavailableError("reset"))
            await cluster.opened()
        assert watched.names() == set("abc")
    assert rests == [0, 0, 0]


async def test_own_write_is_known_before_the_watch_brings_it() -> None:
    cluster = FakeCluster()
    async with watching(cluster) as watched:
        written = cluster.store(PODS, make_manifest("a"), silently=True)
        watched.informer.put(written)
        assert watched.informer.get(Key("ml", "a")) == Key("spam", "a")


async def test_own_write_that_the_watch_has_passed_raises_no_ghost() -> None:
    cluster = FakeCluster()
    async with watching(cluster) as watched:
        written = cluster.store(PODS, make_manifest("a"))
        cluster.remove(PODS, Key("ml", "a"))
        await watched.until(lambda: len(watched.changes) == 2)
        watched.informer.put(written)
        assert watched.informer.get(Key("ml", "a")) is None


async def test_own_write_newer_than_a_list_survives_it() -> None:
    cluster = FakeCluster()
    async with watching(cluster) as watched:
        written = make_manifest("a", resourceVersion="99")
        watched.informer.put(written)
        cluster.send(GoneError("too old"))
        await cluster.opened()
        assert watched.names() == {"a"}


async def test_older_body_never_replaces_a_newer_one() -> None:
    cluster = FakeCluster()
    async with watching(cluster) as watched:
        watched.informer.put(make_manifest("a", job="new", resourceVersion="9"))
        cluster.send({"type": "MODIFIED", "object": make_manifest("a", job="old", resourceVersion="8")})
        cluster.send({"type": "ADDED", "object": make_manifest("b", resourceVersion="10")})
        await watched.until(lambda: watched.names() == {"b"})
        assert watched.names("new") == {"a"}


def test_deletion_of_something_unknown_is_no_news() -> None:
    watched = Watched(FakeCluster())
    watched.informer._handle("DELETED", make_manifest("a", resourceVersion="3"))
    assert watched.changes == []


def test_set_looks_in_the_namespace_that_is_meant() -> None:
    one, other = Watched(FakeCluster()), Watched(FakeCluster())
    both = InformerSet({"ml": one.informer, "prod": other.informer})
    both.put(make_manifest("a", resourceVersion="3"))
    both.put(make_manifest("x", resourceVersion="3") | {"metadata": {"name": "x", "namespace": "unwatched"}})
    assert both.get(Key("ml", "a")) == Key("spam", "a")
    assert list(both.members(Key("ml", "spam"))) == [Key("spam", "a")]
    assert both.get(Key("unwatched", "a")) is None
    assert list(both.members(Key("unwatched", "spam"))) == []
    assert both.all() == [one.informer, other.informer]
