"""At most one replica leads, and never longer than its lease."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from finetune_operator.clients.cluster import LEASES, Resource
from finetune_operator.clients.lease import Elector, LeaseTimes
from finetune_operator.errors import ForbiddenError, LeaseLostError, UnavailableError
from finetune_operator.snapshot import Key
from tests.control_plane.faults import FakeCluster, Manifest

KEY = Key("system", "finetune-operator")
FAST = LeaseTimes(duration=0.6, renew_deadline=0.3, retry=0.05, look=0.05)


def make_elector(cluster: FakeCluster, identity: str, times: LeaseTimes = FAST) -> Elector:
    return Elector(cluster, KEY, identity, times)


def holder(cluster: FakeCluster) -> Any:
    return cluster.objects["leases", KEY]["spec"]["holderIdentity"]


async def until_leading(elector: Elector) -> None:
    await asyncio.wait_for(elector.leading.wait(), 10)


async def test_first_candidate_leads_and_the_second_waits() -> None:
    cluster = FakeCluster()
    one, two = make_elector(cluster, "one"), make_elector(cluster, "two")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one.run())]
        await until_leading(one)
        tasks.append(group.create_task(two.run()))
        renewals = cluster.calls.count("replace leases/finetune-operator")
        while cluster.calls.count("replace leases/finetune-operator") < renewals + 5:
            await asyncio.sleep(0.01)
        assert (one.is_leading(), two.is_leading(), holder(cluster)) == (True, False, "one")
        for task in tasks:
            task.cancel()


async def test_released_lease_is_taken_at_once() -> None:
    cluster = FakeCluster()
    slow = LeaseTimes(duration=3600, renew_deadline=1800, retry=0.05, look=0.05)
    one, two = make_elector(cluster, "one", slow), make_elector(cluster, "two", slow)
    async with asyncio.TaskGroup() as group:
        first, second = group.create_task(one.run()), group.create_task(two.run())
        await until_leading(one)
        first.cancel()
        await one.release()
        assert not one.is_leading()
        await until_leading(two)
        assert holder(cluster) == "two"
        assert cluster.objects["leases", KEY]["spec"]["leaseTransitions"] == 1
        second.cancel()


async def test_leader_that_gives_its_lease_away_does_not_take_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster()
    elector = make_elector(cluster, "one", LeaseTimes(duration=3600, renew_deadline=1800, retry=0.05, look=0.0))
    task = asyncio.create_task(elector.run())
    await until_leading(elector)
    arrived, go_on, renew = asyncio.Event(), asyncio.Event(), cluster.replace

    async def renew_slowly(resource: Resource, key: Key, body: Manifest, timeout: float = 1.0) -> Manifest:
        arrived.set()
        await go_on.wait()
        return await renew(resource, key, body, timeout)

    monkeypatch.setattr(cluster, "replace", renew_slowly)
    monkeypatch.setattr(elector, "_times", replace(elector._times, patience=10.0))
    await asyncio.wait_for(arrived.wait(), 10)
    release = asyncio.create_task(elector.release())
    await asyncio.sleep(0)
    go_on.set()
    await release
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()
    assert (elector.is_leading(), holder(cluster)) == (False, "")
    task.cancel()


async def test_trouble_with_the_lease_is_said_once_as_long_as_it_is_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = FakeCluster()
    elector = make_elector(cluster, "one")
    away, forbidden = UnavailableError("away"), ForbiddenError("no right")
    cluster.failures = [away, away, forbidden, forbidden, away]
    task = asyncio.create_task(elector.run())
    await until_leading(elector)
    task.cancel()
    said = [record.__dict__["error"] for record in caplog.records if record.message == "lease not reached"]
    assert said == ["away", "no right", "away"]


async def test_leader_whose_api_server_is_slow_goes_on_with_one_request_a_renewal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = FakeCluster()
    elector = make_elector(cluster, "one", replace(FAST, patience=0.2))
    replace_at_once = cluster.replace

    async def replace_slowly(resource: Resource, key: Key, body: Manifest, timeout: float = 1.0) -> Manifest:
        await asyncio.sleep(0.14)
        return await replace_at_once(resource, key, body, timeout)

    monkeypatch.setattr(cluster, "replace", replace_slowly)
    task = asyncio.create_task(elector.run())
    await until_leading(elector)
    cluster.calls.clear()
    while len(cluster.calls) < 5:
        await asyncio.sleep(0.01)
        assert elector.is_leading()
    assert set(cluster.calls) == {"replace leases/finetune-operator"}
    task.cancel()


async def test_lease_of_a_dead_leader_is_taken_after_its_time() -> None:
    cluster = FakeCluster()
    dead = make_elector(cluster, "dead")
    task = asyncio.create_task(dead.run())
    await until_leading(dead)
    task.cancel()
    heir = make_elector(cluster, "heir")
    task = asyncio.create_task(heir.run())
    await until_leading(heir)
    assert not dead.is_leading()
    task.cancel()


async def test_leader_that_cannot_renew_stops() -> None:
    cluster = FakeCluster()
    elector = make_elector(cluster, "one")
    task = asyncio.create_task(elector.run())
    await until_leading(elector)
    cluster.failures = [UnavailableError("away")] * 1000
    with pytest.raises(LeaseLostError):
        await asyncio.wait_for(task, 10)
    assert not elector.is_leading()


async def test_time_for_a_write_ends_before_another_may_lead() -> None:
    cluster = FakeCluster()
    elector = make_elector(cluster, "one", LeaseTimes())
    assert elector.seconds_left() == 0.0
    task = asyncio.create_task(elector.run())
    await until_leading(elector)
    task.cancel()
    elector._renewed_at = time.monotonic() - 10.5
    assert not elector.is_leading()
    assert 0.0 < elector.seconds_left() <= 4.5
    await elector.release()
    assert elector.seconds_left() == 0.0


async def test_leader_whose_api_server_hangs_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster()
    elector = make_elector(cluster, "one")
    task = asyncio.create_task(elector.run())
    await until_leading(elector)

    async def hang(resource: Resource, key: Key, *_: object, **__: object) -> Manifest:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(cluster, "get", hang)
    monkeypatch.setattr(cluster, "replace", hang)
    with pytest.raises(LeaseLostError):
        await asyncio.wait_for(task, 10)


async def test_leader_whose_lease_was_taken_stops_at_once() -> None:
    cluster = FakeCluster()
    elector = make_elector(cluster, "one", LeaseTimes(duration=3600, renew_deadline=1800, retry=0.05, look=0.05))
    task = asyncio.create_task(elector.run())
    await until_leading(elector)
    lease = await cluster.get(LEASES, KEY)
    lease["spec"] |= {"holderIdentity": "usurper", "renewTime": "later"}
    cluster.store(LEASES, lease)
    with pytest.raises(LeaseLostError):
        await asyncio.wait_for(task, 10)


async def test_lost_race_is_no_leadership(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster()
    elector = make_elector(cluster, "late")
    cluster.store(LEASES, elector._make_lease() | {"spec": {"holderIdentity": ""}})
    get = cluster.get

    async def get_then_lose(resource: Resource, key: Key, timeout: float = 1.0) -> Manifest:
        lease = await get(resource, key, timeout)
        winner = elector._make_lease()
        winner["spec"]["holderIdentity"] = "winner"
        cluster.store(LEASES, winner)
        return lease

    monkeypatch.setattr(cluster, "get", get_then_lose)
    assert not await elector._try_in_time()
    assert holder(cluster) == "winner"


async def test_release_that_fails_is_left_to_time() -> None:
    cluster = FakeCluster()
    elector = make_elector(cluster, "one")
    task = asyncio.create_task(elector.run())
    await until_leading(elector)
    task.cancel()
    cluster.failures = [UnavailableError("away")]
    await elector.release()
    assert not elector.is_leading()
    assert holder(cluster) == "one"


async def test_candidate_that_never_led_releases_nothing() -> None:
    cluster = FakeCluster()
    await make_elector(cluster, "one").release()
    assert cluster.calls == []


async def test_leader_does_not_release_anothers_lease() -> None:
    cluster = FakeCluster()
    elector = make_elector(cluster, "one")
    task = asyncio.create_task(elector.run())
    await until_leading(elector)
    task.cancel()
    lease = await cluster.get(LEASES, KEY)
    lease["spec"]["holderIdentity"] = "two"
    cluster.store(LEASES, lease)
    await elector.release()
    assert holder(cluster) == "two"
