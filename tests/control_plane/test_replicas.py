"""Several lives of the operator on a real API server: a restart, and a second replica."""

from __future__ import annotations

import time
from pathlib import Path

from finetune_contract import names
from finetune_operator.clients.lease import LeaseTimes
from tests.contract.server import Server
from tests.control_plane.kubelet import Kubelet, run_operator
from tests.control_plane.make import make_step, make_summary
from tests.control_plane.replicas import await_leader, await_ready, open_scene
from tests.control_plane.story import apply, await_annotation, await_phase, try_metrics
from tests.waiting import wait_for

LEASE = LeaseTimes()
LEASE_PATH = "/apis/coordination.k8s.io/v1/namespaces/default/leases/finetune-operator"
MOMENT = "2027-01-15T08:00:00.000000Z"


def test_restart_changes_nothing_for_a_running_job(server: Server, kubelet: Kubelet, tmp_path: Path) -> None:
    variables = {
        "FINETUNE_OPERATOR_AGENT_PORT": str(kubelet.port),
        "FINETUNE_OPERATOR_WATCH_NAMESPACES": "default,kube-public",
    }
    with run_operator(server, tmp_path, "before", **variables) as first:
        apply(server, "steady")
        (pod,) = kubelet.await_pods("steady", 1)
        agent = kubelet.run_pod(pod)
        await_annotation(kubelet, pod, names.ANNOTATION_ATTEMPT)
        agent.say(attempt=1, phase="Training", data=make_summary(), step=make_step())
        await_phase(kubelet, "steady", "Running")
        assert first.stop() == 0
    versions = [kubelet.read_job("steady")["metadata"]["resourceVersion"]]
    versions += [each["metadata"]["resourceVersion"] for each in kubelet.list_pods("steady")]

    with run_operator(server, tmp_path, "after", **variables) as second:
        wait_for(lambda: "reconcile_total{" in try_metrics(second), "it works", seconds=20)
        asked = agent.times_asked
        wait_for(lambda: agent.times_asked >= asked + 2, "the agent was asked and its answer heard", seconds=20)
        after = [kubelet.read_job("steady")["metadata"]["resourceVersion"]]
        after += [each["metadata"]["resourceVersion"] for each in kubelet.list_pods("steady")]
        assert after == versions


def test_other_replica_works_within_two_seconds_when_the_leader_is_told_to_stop(server: Server, tmp_path: Path) -> None:
    with open_scene(server, tmp_path) as scene, scene.run("one") as one:
        await_leader(one)
        with scene.run("two") as two:
            await_ready(two)
            told = time.time()
            assert one.stop() == 0
            first = scene.await_writes("two", told, seconds=20)
            assert first.begun - told < 2.0
            assert scene.find_overlaps() == []


def test_other_replica_works_when_the_lease_of_a_killed_leader_is_over(server: Server, tmp_path: Path) -> None:
    with open_scene(server, tmp_path) as scene, scene.run("one") as one:
        await_leader(one)
        with scene.run("two") as two:
            await_ready(two)
            scene.await_writes("one", 0.0, seconds=20)
            killed = time.time()
            one.process.kill()
            first = scene.await_writes("two", killed, seconds=60)
            assert LEASE.duration - LEASE.retry - 1 < first.begun - killed < LEASE.duration + LEASE.retry
            assert scene.find_overlaps() == []


def take_lease(server: Server) -> bool:
    lease = server.request("GET", LEASE_PATH).body
    lease["spec"] |= {"holderIdentity": "usurper", "leaseDurationSeconds": 1, "renewTime": MOMENT}
    return server.request("PUT", LEASE_PATH, lease).accepted


def test_leader_whose_lease_is_taken_ends_at_once(server: Server, tmp_path: Path) -> None:
    with run_operator(server, tmp_path, "deposed") as operator:
        await_leader(operator)
        wait_for(lambda: take_lease(server), "the lease is taken", seconds=5)
        assert operator.process.wait(20) == 1
    assert "was taken by usurper" in operator.log.read_text()
