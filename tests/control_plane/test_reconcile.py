"""One pass over one job: what is written, in which order, and what happens when a write fails."""

from __future__ import annotations

from dataclasses import replace
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
from finetune_operator.jobs import JobCache
from finetune_operator.observation import Owned, read_owned, read_pod
from finetune_operator.plan.events import Event
from finetune_operator.plan.numbers import INTERVAL_SECONDS
from finetune_operator.plan.objects.defaults import NetworkAccess, TrainerDefaults
from finetune_operator.plan.times import format_time
from finetune_operator.reconcile import REJECTED_AGAIN_SECONDS, Again, Caches, Reconciler
from finetune_operator.snapshot import Answer, Key, Pod
from tests.contract.make import make_data
from tests.control_plane.faults import FakeCluster
from tests.control_plane.make import NOW, POD_0, UID, make_answer, make_failure, make_record, make_step, read_phase

KEY = Key("ml", "spam")


class Heard:
    """Keeps what was told."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.reasons: list[str] = []
        self._cluster = cluster

    async def record(self, key: Key, uid: str, event: Event) -> None:
        self._cluster.calls.append(f"event {event.reason}")
        self.reasons.append(event.reason)


class Told(Agents):
    """Agents whose answers a test writes."""

    def __init__(self) -> None:
        super().__init__(lambda key: None, lambda pod: None)
        self.answers: dict[Key, Answer] = {}
        self.asked: list[Key] = []
        self.refreshed: list[Key] = []

    async def refresh(self, key: Key) -> None:
        self.refreshed.append(key)

    def get(self, key: Key) -> Answer | None:
        return self.answers.get(key)

    def ask(self, key: Key) -> None:
        self.asked.append(key)


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
        self.agents = Told()
        self.lags: list[float] = []
        self.reconciler = Reconciler(
            self.cluster,
            self.heard,
            Caches(self.jobs, InformerSet({None: self.pods}), InformerSet({None: configs}), self.agents),
            defaults or TrainerDefaults(),
            may_write=lambda: self.leads,
            clock=lambda: self.now,
            note_lag=self.lags.append,
        )
        body = make_data(
            spec, namespace="ml", uid=UID, generation=1, creationTimestamp=format_time(NOW), managedFields=[]
        )
        self.jobs.put(self.cluster.store(JOBS, body))

    def read_version(self) -> str:
        return str(self.cluster.objects["finetunejobs", KEY]["metadata"]["resourceVersion"])

    async def reconcile(self) -> Again:
        return await self.reconciler.reconcile(KEY)

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.cluster.objects["finetunejobs", KEY].get("status", {})
        return status

    async def train(self) -> None:
        """Bring the job to its first attempt, which has made five steps; what is told then lies in the status."""
        await self.reconcile()
        self.run_pod(POD_0)
        self.say(told=self.now, attempt=0, phase="Idle", data=None)
        await self.reconcile()
        self.say(told=self.now, step=make_step())
        await self.reconcile()

    def say(self, *, told: float, **facts: Any) -> None:
        """The agent says something."""
        self.agents.answers[Key("ml", POD_0)] = replace(make_answer(**facts), told=told)

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
    assert (await room.reconcile()).after == REJECTED_AGAIN_SECONDS
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
    assert (await room.reconcile()).after == REJECTED_AGAIN_SECONDS
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
    assert await room.reconcile() == Again()
    assert room.cluster.calls == []


async def test_status_of_an_unknown_version_is_not_overwritten() -> None:
    room = Room()
    body = room.cluster.objects["finetunejobs", KEY]
    room.jobs.put(room.cluster.store(JOBS, body | {"status": {"fromTheFuture": True}}))
    with pytest.raises(UnreadableError, match="fromTheFuture"):
        await room.reconcile()
    assert room.cluster.calls == []


async def test_lag_of_a_status_is_the_age_of_the_news_in_it() -> None:
    room = Room()
    await room.train()
    assert room.status()["phase"] == "Running"
    room.lags.clear()
    room.now += 1
    room.say(told=room.now, phase="Finalizing", step=make_step())
    room.now += 2
    await room.reconcile()
    assert (room.status()["phase"], room.lags) == ("Evaluating", [2.0])


async def test_figures_are_no_news_and_have_no_lag() -> None:
    room = Room()
    await room.train()
    room.lags.clear()
    told = room.now
    room.now += 20
    room.say(told=told, step=make_step(7))
    await room.reconcile()
    assert (room.status()["progress"]["step"], room.lags) == (7, [])


async def test_figures_wait_for_their_pace_and_then_for_nothing() -> None:
    room = Room()
    await room.train()
    assert room.reconciler.wait_for_figures(KEY) == INTERVAL_SECONDS
    room.now += 10
    assert room.reconciler.wait_for_figures(KEY) == 5.0
    room.say(told=NOW, step=make_step(7))
    assert (await room.reconcile()).figures_after == 5.0
    room.now += 5
    writes = len(room.cluster.calls)
    assert room.reconciler.wait_for_figures(KEY) == 0.0
    await room.reconcile()
    assert room.cluster.calls[writes:] == ["merge finetunejobs/spam/status"]


async def test_figures_are_asked_for_when_they_may_be_written() -> None:
    room = Room()
    await room.reconciler.refresh_figures(KEY)
    await room.train()
    room.now += INTERVAL_SECONDS - 1
    await room.reconciler.refresh_figures(KEY)
    assert room.agents.refreshed == [], "too early"
    room.now += 1
    await room.reconciler.refresh_figures(KEY)
    assert room.agents.refreshed == [Key("ml", POD_0)]


async def test_figures_that_were_written_are_looked_at_again_when_they_may_be() -> None:
    room = Room()
    await room.train()
    room.now += INTERVAL_SECONDS
    room.say(told=NOW, step=make_step(7))
    assert (await room.reconcile()).figures_after == INTERVAL_SECONDS
    room.now += INTERVAL_SECONDS
    assert (await room.reconcile()).figures_after is None, "they stand still: nobody knows when they move"


async def test_our_own_write_is_known_again_where_it_told_figures_alone() -> None:
    room = Room()
    await room.train()
    assert not room.reconciler.wrote_figures(KEY, room.read_version()), "that the job trains is more than a figure"
    room.now += INTERVAL_SECONDS
    room.say(told=NOW, step=make_step(7, training_seconds=7.0))
    await room.reconcile()
    assert room.reconciler.wrote_figures(KEY, room.read_version())
    assert not room.reconciler.wrote_figures(KEY, "1"), "somebody else's, or an older one"
    room.now += INTERVAL_SECONDS
    room.say(told=room.now, step=make_step(8), checkpoints=(make_record(8),))
    await room.reconcile()
    assert not room.reconciler.wrote_figures(KEY, room.read_version()), "a checkpoint is more than a figure"


async def test_job_whose_figures_stand_still_is_left_in_peace() -> None:
    room = Room()
    await room.train()
    room.now += INTERVAL_SECONDS
    writes = len(room.cluster.calls)
    room.say(told=NOW, step=make_step())
    assert (await room.reconcile()).figures_after is None
    assert room.cluster.calls[writes:] == []
    room.jobs.remove(KEY)
    await room.reconcile()
    assert room.reconciler.wait_for_figures(KEY) == 0.0


async def test_end_of_an_attempt_has_all_agents_of_the_job_asked_at_once() -> None:
    room = Room()
    await room.train()
    assert room.agents.asked == []
    room.say(told=room.now, phase="Failed", failure=make_failure(node=0), step=make_step())
    await room.reconcile()
    assert room.status()["attempts"][0]["result"] == "Failed"
    assert room.agents.asked == [Key("ml", POD_0)]
