"""The running operator on a cluster in memory: what a defect, a fault or a gap in the watch does to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from finetune_contract import names
from finetune_operator import health
from finetune_operator import manager as manager_module
from finetune_operator import start as start_module
from finetune_operator.clients.cluster import JOBS, LEASES, PODS, Cluster
from finetune_operator.errors import ForbiddenError, NotFoundError, UnavailableError
from finetune_operator.manager import LEASE_NAME, Manager
from finetune_operator.metrics import Metrics
from finetune_operator.reconcile import Again, Reconciler
from finetune_operator.settings import Settings
from finetune_operator.snapshot import Key
from tests.contract.make import make_data
from tests.control_plane.faults import FakeCluster
from tests.control_plane.make import UID, make_running_pod


def store_job(cluster: FakeCluster, name: str) -> dict[str, Any]:
    uid = f"{name}{UID[len(name) :]}"
    return cluster.store(JOBS, make_data(name=name, namespace="ml", uid=uid, generation=1))


def make_manager(cluster: FakeCluster) -> Manager:
    return Manager(Settings(workers=2, identity="test"), cast("Cluster", cluster), Metrics())


@asynccontextmanager
async def running(manager: Manager) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(manager.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not look():
            await asyncio.sleep(0.002)


def phase(cluster: FakeCluster, job: str) -> str | None:
    found: str | None = cluster.objects["finetunejobs", Key("ml", job)].get("status", {}).get("phase")
    return found


def observed(cluster: FakeCluster, job: str) -> int | None:
    found: int | None = cluster.objects["finetunejobs", Key("ml", job)]["status"].get("observedGeneration")
    return found


def has_pod(cluster: FakeCluster, job: str) -> bool:
    return any(plural == "pods" and key.name.startswith(f"{job}-") for plural, key in cluster.objects)


@pytest.fixture(autouse=True)
def _retry_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_module, "RETRY_SECONDS", 0.001)


async def test_jobs_that_were_there_before_are_reconciled() -> None:
    cluster = FakeCluster()
    store_job(cluster, "old")
    manager = make_manager(cluster)
    assert manager.check_ready() is not None
    async with running(manager):
        await until(lambda: has_pod(cluster, "old"))
        assert (manager.check_ready(), manager.check_alive()) == (None, None)


async def test_event_of_the_watch_brings_a_job_in_and_out() -> None:
    cluster = FakeCluster()
    manager = make_manager(cluster)
    async with running(manager):
        await until(lambda: manager.check_ready() is None)
        body = store_job(cluster, "new")
        manager.see("ADDED", body)
        await until(lambda: has_pod(cluster, "new"))
        manager.see("DELETED", body)
        assert manager.jobs.keys() == []


async def test_thousands_of_jobs_that_need_nothing_leave_the_event_loop_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The lease is renewed between two of them: passes that await nothing ran one after the other for 20 seconds."""
    passes: list[int] = []

    async def reconcile(self: Reconciler, key: Key) -> Again:
        passes.append(turns)
        return Again()

    monkeypatch.setattr(Reconciler, "reconcile", reconcile)
    cluster, turns = FakeCluster(), 0
    for number in range(100):
        store_job(cluster, f"job-{number}")
    async with running(make_manager(cluster)):
        async with asyncio.timeout(10):
            while len(set(passes)) < 100:
                turns += 1
                await asyncio.sleep(0)
                assert len(passes) == len(set(passes)), "two passes in one turn of the loop"


async def test_standby_writes_nothing() -> None:
    cluster = FakeCluster()
    lease = {"metadata": {"name": LEASE_NAME, "namespace": "default"}}
    cluster.store(LEASES, lease | {"spec": {"holderIdentity": "other", "leaseDurationSeconds": 3600}})
    store_job(cluster, "a")
    manager = make_manager(cluster)
    async with running(manager):
        await until(lambda: f"get leases/{LEASE_NAME}" in cluster.calls)
        await until(lambda: manager.check_ready() is None)
        assert not [call for call in cluster.calls if call.split()[0] not in ("get", "list", "watch")]


@pytest.mark.parametrize("fault", [NotFoundError("no CRD"), ForbiddenError("no right"), UnavailableError("away")])
async def test_start_waits_for_an_api_server_that_cannot_answer_yet(fault: Exception) -> None:
    cluster = FakeCluster()
    store_job(cluster, "a")
    cluster.failures = [fault, fault]
    manager = make_manager(cluster)
    async with running(manager):
        await until(lambda: has_pod(cluster, "a"))
        assert manager.served.is_set()


async def test_defect_in_one_job_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    reconcile = Reconciler.reconcile

    async def reconcile_or_crash(self: Reconciler, key: Key) -> Again:
        if key.name == "bad":
            raise RuntimeError("a defect")
        return await reconcile(self, key)

    monkeypatch.setattr(Reconciler, "reconcile", reconcile_or_crash)
    cluster = FakeCluster()
    store_job(cluster, "bad")
    store_job(cluster, "good")
    manager = make_manager(cluster)
    async with running(manager) as task:
        await until(lambda: has_pod(cluster, "good"))
        assert not task.done()


async def test_write_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster()
    create, faults = cluster.create, [UnavailableError("500"), UnavailableError("429")]

    async def create_or_fail(*arguments: Any, **options: Any) -> dict[str, Any]:
        if arguments[0] == PODS and faults:
            raise faults.pop()
        return await create(*arguments, **options)

    monkeypatch.setattr(cluster, "create", create_or_fail)
    store_job(cluster, "a")
    async with running(make_manager(cluster)):
        await until(lambda: has_pod(cluster, "a"))
        assert faults == []


async def test_job_that_changed_unseen_is_read_and_not_waited_for() -> None:
    cluster = FakeCluster()
    manager = make_manager(cluster)
    async with running(manager):
        await until(lambda: manager.check_ready() is None)
        manager.see("ADDED", store_job(cluster, "a"))
        await until(lambda: phase(cluster, "a") == "Pending")
        changed = dict(cluster.objects["finetunejobs", Key("ml", "a")])
        changed["metadata"] = changed["metadata"] | {"generation": 2}
        cluster.store(JOBS, changed)
        manager.queue.add(Key("ml", "a"))
        (key,) = [key for plural, key in cluster.objects if plural == "pods"]
        cluster.store(PODS, cluster.objects["pods", key] | {"status": {"phase": "Running", "podIP": "127.0.0.1"}})
        await until(lambda: observed(cluster, "a") == 2)


async def test_wait_that_the_api_server_asks_for_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = UnavailableError("429")
    busy.retry_after = 7.0

    async def reconcile(self: Reconciler, key: Key) -> Again:
        raise busy

    monkeypatch.setattr(Reconciler, "reconcile", reconcile)
    waits: list[float] = []
    cluster = FakeCluster()
    manager = make_manager(cluster)
    retry = manager.queue.retry

    def note(key: Key, at_least: float = 0.0) -> float:
        waits.append(retry(key, at_least))
        return waits[-1]

    monkeypatch.setattr(manager.queue, "retry", note)
    store_job(cluster, "a")
    async with running(manager):
        await until(lambda: waits != [])
        assert waits == [7.0]


async def test_job_that_vanished_in_a_gap_is_dropped_by_the_next_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager_module, "RESYNC_SECONDS", 0.01)
    cluster = FakeCluster()
    store_job(cluster, "ghost")
    manager = make_manager(cluster)
    async with running(manager):
        await until(lambda: manager.jobs.keys() == [Key("ml", "ghost")])
        cluster.remove(JOBS, Key("ml", "ghost"))
        await until(lambda: manager.jobs.keys() == [])
        cluster.failures = [UnavailableError("away")]
        store_job(cluster, "missed")
        await until(lambda: has_pod(cluster, "missed"))


async def test_order_of_stopping_gives_the_lease_away_last() -> None:
    cluster = FakeCluster()
    store_job(cluster, "a")
    manager = make_manager(cluster)
    async with running(manager):
        await until(lambda: has_pod(cluster, "a"))
        await manager.stop()
        store_job(cluster, "late")
        manager.see("ADDED", cluster.objects["finetunejobs", Key("ml", "late")])
        assert cluster.objects["leases", Key("default", LEASE_NAME)]["spec"]["holderIdentity"] == ""
        assert not has_pod(cluster, "late")


async def test_silence_of_the_api_server_and_a_stuck_queue_are_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster()
    manager = make_manager(cluster)
    async with running(manager):
        await until(lambda: manager.check_ready() is None)
        await until(manager._elector.is_leading)
        monkeypatch.setattr(health, "SILENT_SECONDS", -1.0)
        assert manager.check_alive() == "nothing was heard of finetunejobs for 0 s"
        await until(lambda: bool(manager._workers))
        monkeypatch.setattr(health, "STUCK_SECONDS", -1.0)
        assert manager.check_alive() == "a job has waited for 0 s to be looked at"


async def test_changes_of_pods_wake_their_job() -> None:
    cluster = FakeCluster()
    store_job(cluster, "a")
    manager = make_manager(cluster)
    async with running(manager):
        await until(lambda: has_pod(cluster, "a"))
        (key,) = [key for plural, key in cluster.objects if plural == "pods"]
        pod = cluster.objects["pods", key]
        cluster.store(PODS, pod | {"status": {"phase": "Running", "podIP": "127.0.0.1"}})
        await until(lambda: "merge pods/" + key.name in cluster.calls)
        assert manager.pods.get(key) is not None
        cluster.remove(PODS, key)
        await until(lambda: has_pod(cluster, "a"))


async def test_new_leader_reads_what_its_watch_has_not_brought_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster()
    lease = {"metadata": {"name": LEASE_NAME, "namespace": "default"}}
    held = {"holderIdentity": "other", "leaseDurationSeconds": 3600, "renewTime": "now"}
    cluster.store(LEASES, lease | {"spec": held})
    store_job(cluster, "old")
    store_job(cluster, "gone")
    manager = make_manager(cluster)
    async with running(manager):
        await until(lambda: manager.check_ready() is None)
        store_job(cluster, "unseen")
        cluster.remove(JOBS, Key("ml", "gone"))
        cluster.calls.clear()
        given = cluster.objects["leases", Key("default", LEASE_NAME)]
        cluster.store(LEASES, given | {"spec": {"holderIdentity": ""}})
        await until(lambda: has_pod(cluster, "old") and has_pod(cluster, "unseen"))
        assert sorted(manager.jobs.keys()) == [Key("ml", "old"), Key("ml", "unseen")]
        assert [call for call in cluster.calls if "list" in call] == ["list metadata finetunejobs"]


async def test_time_as_a_follower_is_no_time_in_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster()
    manager = make_manager(cluster)
    store_job(cluster, "a")
    await manager._list_jobs()
    (key,) = manager.queue._dirty
    manager.queue._dirty[key] -= 3600.0
    assert manager.queue.oldest_seconds > 3600.0
    assert manager.check_alive() is None
    manager.queue.count_waiting_from_now()
    assert manager.queue.oldest_seconds < 60.0


async def test_caches_are_counted_and_their_age_is_known() -> None:
    cluster = FakeCluster()
    store_job(cluster, "a")
    metrics = Metrics()
    manager = Manager(Settings(workers=2, identity="test"), cast("Cluster", cluster), metrics)
    async with running(manager):
        await until(lambda: has_pod(cluster, "a"))
        text = metrics.render().decode()
    held = [line for line in text.splitlines() if line.startswith("finetune_informer_objects")]
    assert held == [
        'finetune_informer_objects{resource="finetunejobs"} 1.0',
        'finetune_informer_objects{resource="pods"} 1.0',
        'finetune_informer_objects{resource="configmaps"} 1.0',
    ]
    ages = [line for line in text.splitlines() if line.startswith("finetune_informer_age_seconds")]
    assert [float(line.split()[1]) < 60 for line in ages] == [True, True, True]


async def test_pod_that_may_have_news_has_its_agent_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster()
    manager = make_manager(cluster)
    asked: list[Key] = []
    monkeypatch.setattr(manager.agents, "ask", asked.append)
    labels = {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_JOB: "a"}
    pod: dict[str, Any] = {
        "metadata": {"name": "a-0", "namespace": "ml", "labels": labels, "annotations": {}},
        "spec": {"containers": [{"name": names.CONTAINER}]},
        "status": {"phase": "Running", "podIP": "127.0.0.1"},
    }
    async with running(manager):
        await until(lambda: manager.check_ready() is None)
        for change in (
            {},
            {"status": pod["status"] | {"conditions": [{"type": "Ready", "status": "True"}]}},
            {"metadata": pod["metadata"] | {"annotations": {names.ANNOTATION_ATTEMPT: "{}"}}},
            {"metadata": pod["metadata"] | {"deletionTimestamp": "2027-01-15T08:00:00Z"}},
        ):
            count = len(asked)
            cluster.store(PODS, pod | change)
            await until(lambda count=count: len(asked) > count)  # type: ignore[misc]
        cluster.store(PODS, pod | {"metadata": pod["metadata"] | {"labels": labels | {"other": "label"}}})
        await until(lambda: len(asked) > 4)
        cluster.store(PODS, pod | {"metadata": pod["metadata"] | {"labels": labels | {"other": "again"}}})
        version = str(cluster.version)
        await until(lambda: str(manager.pods.all()[0]._position) == version)
        assert asked == [Key("ml", "a-0")] * 5


async def test_our_own_write_of_figures_alone_leads_to_no_other_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = make_manager(FakeCluster())
    figures, waiting = {(Key("ml", "a"), "7")}, []
    monkeypatch.setattr(manager._reconciler, "wrote_figures", lambda key, version: (key, version) in figures)
    for name, version in (("a", "7"), ("b", "7"), ("a", "8")):
        manager.see("MODIFIED", make_data(name=name, namespace="ml", uid=UID, resourceVersion=version))
        waiting.append(len(manager.queue))
    assert waiting == [0, 1, 2]


async def test_figures_wake_their_job_when_they_may_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster()
    store_job(cluster, "a")
    manager = make_manager(cluster)
    planned: list[tuple[Key, float]] = []
    async with running(manager):
        await until(lambda: has_pod(cluster, "a"))
        (key,) = [key for plural, key in cluster.objects if plural == "pods"]
        pod = manager.pods.get(key)
        assert pod is not None
        monkeypatch.setattr(manager._reconciler, "wait_for_figures", {Key("ml", "a"): 7.0}.get)
        monkeypatch.setattr(manager.queue, "add_after", lambda key, seconds: planned.append((key, seconds)))
        manager._hear_figures(pod)
        assert planned == [(Key("ml", "a"), 7.0)]


async def test_agent_that_falls_silent_wakes_its_job() -> None:
    manager = make_manager(FakeCluster())
    manager._miss_agent(make_running_pod())
    assert await manager.queue.get() == Key("ml", "spam")


async def test_figures_are_asked_for_before_a_pass_without_hurry_and_not_before_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []
    cluster = FakeCluster()
    manager = make_manager(cluster)

    async def refresh(key: Key) -> None:
        done.append("asked")

    async def reconcile(key: Key) -> Again:
        done.append("pass")
        return Again()

    monkeypatch.setattr(manager._reconciler, "refresh_figures", refresh)
    monkeypatch.setattr(manager._reconciler, "reconcile", reconcile)
    async with running(manager):
        await until(lambda: bool(manager._workers))
        manager.queue.add(Key("ml", "a"))
        await until(lambda: done == ["asked", "pass"])
        manager.queue.add(Key("ml", "a"), first=True)
        await until(lambda: done == ["asked", "pass", "pass"])
