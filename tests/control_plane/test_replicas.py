"""Several lives of the operator on a real API server: a restart, and a second replica."""

from __future__ import annotations

from pathlib import Path

from finetune_contract import names
from tests.contract.server import Server
from tests.control_plane.kubelet import Kubelet, run_operator
from tests.control_plane.make import make_step, make_summary
from tests.control_plane.story import apply, await_annotation, await_phase, try_metrics
from tests.waiting import wait_for

LEADING = 'leader_election_master_status{name="finetune-operator"} 1.0'
LEASE = "/apis/coordination.k8s.io/v1/namespaces/default/leases/finetune-operator"
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


def test_second_replica_takes_over_when_the_first_stops(server: Server, kubelet: Kubelet, tmp_path: Path) -> None:
    variables = {"FINETUNE_OPERATOR_AGENT_PORT": str(kubelet.port)}
    with (
        run_operator(server, tmp_path, "one", **variables) as one,
        run_operator(server, tmp_path, "two", **variables) as two,
    ):
        replicas = [one, two]
        wait_for(lambda: any(LEADING in try_metrics(each) for each in replicas), "one leads", seconds=20)
        leader, other = sorted(replicas, key=lambda each: LEADING not in try_metrics(each))
        assert LEADING not in try_metrics(other)
        assert leader.stop() == 0
        wait_for(lambda: LEADING in try_metrics(other), "the other leads", seconds=20)
        apply(server, "handed-over")
        kubelet.await_pods("handed-over", 1)


def take_lease(server: Server) -> bool:
    lease = server.request("GET", LEASE).body
    lease["spec"] |= {"holderIdentity": "usurper", "leaseDurationSeconds": 1, "renewTime": MOMENT}
    return server.request("PUT", LEASE, lease).accepted


def test_leader_whose_lease_is_taken_ends_at_once(server: Server, tmp_path: Path) -> None:
    with run_operator(server, tmp_path, "deposed") as operator:
        wait_for(lambda: LEADING in try_metrics(operator), "it leads", seconds=20)
        wait_for(lambda: take_lease(server), "the lease is taken", seconds=5)
        assert operator.process.wait(20) == 1
    assert "was taken by usurper" in operator.log.read_text()
