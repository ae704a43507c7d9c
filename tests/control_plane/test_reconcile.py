"""One pass over one job: what is written, in which order, and what happens when a write fails."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_contract import names
from finetune_operator.clients.agents import Agents
from finetune_operator.clients.cluster import CONFIG_MAPS, JOBS, NETWORK_POLICIES, PODS
from finetune_operator.clients.informers import Informer, InformerSet
from finetune_operator.errors import (
    ClusterError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    LeaseLostError,
    UnavailableError,
    UnreadableError,
)
from finetune_operator.jobs import JobCache, read_phase
from finetune_operator.observation import Owned, read_owned, read_pod
from finetune_operator.plan.events import Event
from finetune_operator.plan.objects.defaults import NetworkAccess, TrainerDefaults
from finetune_operator.plan.times import format_time
from finetune_operator.reconcile import REJECTED_AGAIN_SECONDS, Caches, Reconciler
from finetune_operator.snapshot import Key, Pod
from tests.contract.make import make_data
from tests.control_plane.faults import FakeCluster
from tests.control_plane.make import NOW, UID

KEY = Key("ml", "spam")


class Heard:
    """Keeps what was told."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.reasons: list[str] = []
        self._cluster = cluster

    async def record(self, key: Key, uid: str, event: Event) -> None:
        self._cluster.calls.append(f"event {event.reason}")
        self.reasons.append(event.reason)


class Room:
    """A reconciler with all its caches on a cluster in memory."""

    def __init__(self, spec: dict[str, Any] | None = None, defaults: TrainerDefaults | None = None) -> None:
        self.cluster = FakeCluster()
        self.heard = Heard(self.cluster)
        self.now = NOW
        self.leads = True
        self.pods: Informer[Pod] = Informer(
            self.cluster,
            PODS,
            None,
            selector="",
            read=read_pod,
            group=lambda pod: Key(pod.key.namespace, pod.job),
            on_change=lambda key, before, after: None,
        )
        configs: Informer[Owned] = Informer(
            self.cluster,
            CONFIG_MAPS,
            None,
            selector="",
            read=read_owned,
            group=lambda owned: Key(owned.key.namespace, owned.job),
            on_change=lambda key, before, after: None,
        )
        self.jobs = JobCache(read_phase)
        agents = Agents(lambda key: None, lambda pod: None)
        self.reconciler = Reconciler(
            self.cluster,
            self.heard,
            Caches(self.jobs, InformerSet({None: self.pods}), InformerSet({None: configs}), agents),
            defaults or TrainerDefaults(),
            may_write=lambda: self.leads,
            clock=lambda: self.now,
        )
        body = make_data(
            spec, namespace="ml", uid=UID, generation=1, creationTimestamp=format_time(NOW), managedFields=[]
        )
        self.jobs.put(self.cluster.store(JOBS, body))

    async def reconcile(self) -> float | None:
        return await self.reconciler.reconcile(KEY)

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.cluster.objects["finetunejobs", KEY].get("status", {})
        return status

    def run_pod(self, name: str) -> None:
        pod = self.cluster.objects["pods", Key("ml", name)]
        status = {"phase": "Running", "podIP": "10.0.0.1"}
        self.pods.put(self.cluster.store(PODS, pod | {"status": status}))


async def test_new_job_costs_one_write_an_object_and_one_for_its_status() -> None:
    room = Room()
    await room.reconcile()
    assert room.cluster.calls == [
        "create configmaps/spam-0a1b2-run",
        "create pods/spam-0a1b2-0-0",
        "merge finetunejobs/spam/status",
        "event PodsCreated",
    ]


async def test_network_policy_of_a_former_leader_is_taken_as_it_is() -> None:
    room = Room(defaults=TrainerDefaults(network=NetworkAccess("system", {"app": "operator"})))
    policy = {"metadata": {"name": "spam-0a1b2-network", "namespace": "ml", "labels": {names.LABEL_JOB_UID: UID}}}
    room.cluster.store(NETWORK_POLICIES, policy)
    await room.reconcile()
    assert room.cluster.calls[:3] == [
        "create networkpolicies/spam-0a1b2-network",
        "get networkpolicies/spam-0a1b2-network",
        "create configmaps/spam-0a1b2-run",
    ]


@pytest.mark.parametrize("refusal", [ForbiddenError("networkpolicies is forbidden"), InvalidError("peers: no")])
async def test_network_policy_that_cannot_be_made_holds_the_pods_back_and_ends_no_job(refusal: ClusterError) -> None:
    room = Room(defaults=TrainerDefaults(network=NetworkAccess("system", {"app": "operator"})))
    room.cluster.failures = [refusal]
    await room.reconcile()
    assert room.cluster.calls == ["create networkpolicies/spam-0a1b2-network", "merge finetunejobs/spam/status"]
    assert room.status()["phase"] == "Pending"
    running = next(each for each in room.status()["conditions"] if each["type"] == "Running")
    assert running["message"] == f"The API server refused the job's NetworkPolicy: {refusal}"


async def test_own_writes_are_known_at_once_so_that_a_second_pass_writes_nothing() -> None:
    room = Room()
    await room.reconcile()
    before = len(room.cluster.calls)
    await room.reconcile()
    assert len(room.cluster.calls) == before


async def test_attempt_stands_in_the_status_before_members_are_told() -> None:
    room = Room()
    await room.reconcile()
    room.run_pod("spam-0a1b2-0-0")
    room.cluster.calls.clear()
    await room.reconcile()
    assert room.cluster.calls == [
        "merge finetunejobs/spam/status",
        "merge pods/spam-0a1b2-0-0",
        "event AttemptStarted",
    ]


async def test_attempt_is_not_told_when_its_number_could_not_be_written() -> None:
    room = Room()
    await room.reconcile()
    room.run_pod("spam-0a1b2-0-0")
    room.cluster.failures = [UnavailableError("away")]
    with pytest.raises(UnavailableError):
        await room.reconcile()
    pod = room.cluster.objects["pods", Key("ml", "spam-0a1b2-0-0")]
    assert names.ANNOTATION_ATTEMPT not in pod["metadata"].get("annotations", {})
    await room.reconcile()
    pod = room.cluster.objects["pods", Key("ml", "spam-0a1b2-0-0")]
    assert names.ANNOTATION_ATTEMPT in pod["metadata"]["annotations"]


async def test_status_is_not_written_over_somebody_elses_change() -> None:
    room = Room()
    room.cluster.store(JOBS, room.cluster.objects["finetunejobs", KEY])
    with pytest.raises(ConflictError):
        await room.reconcile()
    assert room.status() == {}
    assert room.heard.reasons == []


async def test_replica_that_does_not_lead_writes_nothing() -> None:
    room = Room()
    room.leads = False
    with pytest.raises(LeaseLostError):
        await room.reconcile()
    assert room.cluster.calls == []


async def test_refused_pod_is_explained_and_tried_again_later() -> None:
    room = Room()
    await room.reconcile()
    room = Room()
    room.cluster.failures = [ForbiddenError('exceeded quota: "small"')]
    assert await room.reconcile() == REJECTED_AGAIN_SECONDS
    running = next(each for each in room.status()["conditions"] if each["type"] == "Running")
    assert running["message"] == 'The API server refused a pod: exceeded quota: "small"'
    assert room.heard.reasons == []
    await room.reconcile()
    running = next(each for each in room.status()["conditions"] if each["type"] == "Running")
    assert running["message"] == "The pods are starting."
    assert room.heard.reasons == ["PodsCreated"]


async def test_pod_that_can_never_be_accepted_ends_the_job() -> None:
    room = Room()
    room.cluster.failures = [InvalidError("spec.nodeSelector is wrong")]
    await room.reconcile()
    assert room.status()["phase"] == "Failed"
    assert room.heard.reasons == ["PodRejected"]


async def test_object_of_a_former_leader_is_adopted() -> None:
    room, former = Room(), Room()
    await former.reconcile()
    room.cluster.objects |= {
        key: value for key, value in former.cluster.objects.items() if key[0] in ("pods", "configmaps")
    }
    await room.reconcile()
    assert room.status()["phase"] == "Pending"
    assert room.heard.reasons == ["PodsCreated"]


async def test_strangers_object_of_our_name_is_named() -> None:
    room = Room()
    room.cluster.store(PODS, {"kind": "Pod", "metadata": {"name": "spam-0a1b2-0-0", "namespace": "ml"}})
    assert await room.reconcile() == REJECTED_AGAIN_SECONDS
    running = next(each for each in room.status()["conditions"] if each["type"] == "Running")
    assert running["message"] == (
        "The API server refused a pod: spam-0a1b2-0-0 exists and is not this job's: delete it"
    )


async def test_values_that_vanish_from_the_status_are_taken_out() -> None:
    room = Room()
    body = room.cluster.objects["finetunejobs", KEY]
    room.jobs.put(room.cluster.store(JOBS, body | {"status": {"phase": "Pending", "display": {"eta": "3s"}}}))
    await room.reconcile()
    assert room.status()["display"] == {"reason": "PodsStarting"}


async def test_expired_job_and_pods_that_never_ran_are_deleted() -> None:
    room = Room({"lifecycle": {"queueDeadlineSeconds": 60, "ttlSecondsAfterFinished": 10}})
    await room.reconcile()
    room.now += 60
    await room.reconcile()
    assert "delete pods/spam-0a1b2-0-0" in room.cluster.calls
    room.now += 10
    await room.reconcile()
    assert ("finetunejobs", KEY) not in room.cluster.objects


async def test_pod_that_is_gone_already_needs_no_deletion() -> None:
    room = Room({"lifecycle": {"queueDeadlineSeconds": 60}})
    await room.reconcile()
    room.cluster.remove(PODS, Key("ml", "spam-0a1b2-0-0"))
    room.now += 60
    await room.reconcile()
    assert room.status()["phase"] == "Failed"


async def test_pod_that_does_not_go_is_taken_out_without_its_node() -> None:
    room = Room()
    await room.reconcile()
    pod = room.cluster.objects["pods", Key("ml", "spam-0a1b2-0-0")]
    going = pod | {"metadata": pod["metadata"] | {"deletionTimestamp": format_time(NOW + 120)}}
    room.pods.put(room.cluster.store(PODS, going))
    room.now += 149
    await room.reconcile()
    assert not [call for call in room.cluster.calls if call.startswith("delete")]
    room.now += 1
    await room.reconcile()
    assert [call for call in room.cluster.calls if call.startswith("delete")] == ["delete pods/spam-0a1b2-0-0 in 0 s"]


async def test_job_that_is_gone_is_nothing_to_do() -> None:
    room = Room()
    room.jobs.remove(KEY)
    assert await room.reconcile() is None
    assert room.cluster.calls == []


async def test_status_of_an_unknown_version_is_not_overwritten() -> None:
    room = Room()
    body = room.cluster.objects["finetunejobs", KEY]
    room.jobs.put(room.cluster.store(JOBS, body | {"status": {"fromTheFuture": True}}))
    with pytest.raises(UnreadableError, match="fromTheFuture"):
        await room.reconcile()
    assert room.cluster.calls == []
