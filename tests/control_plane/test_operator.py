"""The operator as a process on a real API server; the test plays kubelet and agents."""

from __future__ import annotations

import json

from finetune_contract import names
from finetune_contract.attempt import Attempt
from tests.contract.server import JOBS, Server
from tests.control_plane.kubelet import Kubelet, Operator
from tests.control_plane.make import make_failure, make_outcome, make_record, make_step, make_summary
from tests.control_plane.story import (
    apply,
    await_annotation,
    await_phase,
    list_events,
    read_conditions,
    try_metrics,
)
from tests.waiting import wait_for

TWO_NODES = {"resources": {"nodes": 2}}


def test_job_on_two_nodes_succeeds_and_its_agents_may_finish(
    server: Server, operator: Operator, kubelet: Kubelet
) -> None:
    apply(server, "happy", TWO_NODES)
    pods = kubelet.await_pods("happy", 2)
    assert read_conditions(await_phase(kubelet, "happy", "Pending")) == {
        "Accepted": ("True", "Accepted"),
        "DataReady": ("False", "PodsStarting"),
        "Running": ("False", "PodsStarting"),
    }

    agents = [kubelet.run_pod(pod) for pod in pods]
    attempt = Attempt.from_json(await_annotation(kubelet, pods[1], names.ANNOTATION_ATTEMPT))
    assert attempt == Attempt.from_json(await_annotation(kubelet, pods[0], names.ANNOTATION_ATTEMPT))
    assert attempt.members == {"0": agents[0].ip, "1": agents[1].ip}
    assert await_phase(kubelet, "happy", "Preparing")["attempts"][0]["number"] == 1

    agents[0].say(attempt=1, phase="Starting", data=make_summary())
    await_phase(kubelet, "happy", "Starting")
    agents[0].say(phase="Training", step=make_step(), checkpoints=(make_record(),), best_step=5)
    running = await_phase(kubelet, "happy", "Running")
    assert running["progress"]["percent"] == 50.0
    assert running["checkpoints"] == [make_record().to_data()]
    agents[0].say(phase="Finalizing")
    await_phase(kubelet, "happy", "Evaluating")
    agents[0].say(phase="Publishing")
    await_phase(kubelet, "happy", "Publishing")
    outcome = make_outcome()
    agents[0].say(phase="Finished", outcome=outcome, news=True)
    kubelet.flip_ready(pods[0], False)

    status = await_phase(kubelet, "happy", "Succeeded")
    assert status["evaluation"] == outcome.to_data()["evaluation"]
    assert status["published"] == outcome.to_data()["published"]
    assert read_conditions(status) == {
        "Accepted": ("True", "Accepted"),
        "DataReady": ("True", "Prepared"),
        "Running": ("False", "Finished"),
        "Succeeded": ("True", "Published"),
    }
    for pod in pods:
        assert await_annotation(kubelet, pod, names.ANNOTATION_FINISH)
    expected = ["AttemptStarted", "CheckpointVerified", "PodsCreated", "Prepared", "Published", "Training"]
    wait_for(lambda: list_events(server, "happy") == expected, "the story is told", seconds=10)


def test_agents_failure_ends_the_job_with_its_cause(server: Server, operator: Operator, kubelet: Kubelet) -> None:
    apply(server, "crash", TWO_NODES)
    pods = kubelet.await_pods("crash", 2)
    agents = [kubelet.run_pod(pod) for pod in pods]
    await_annotation(kubelet, pods[0], names.ANNOTATION_ATTEMPT)
    agents[1].say(attempt=1, phase="Failed", news=True, failure=make_failure(node=1))
    kubelet.flip_ready(pods[1], False)

    status = await_phase(kubelet, "crash", "Failed")
    assert status["failure"] == make_failure(node=1).to_data()
    assert read_conditions(status)["Failed"] == ("True", "CodeCrash")
    assert await_annotation(kubelet, pods[0], names.ANNOTATION_FINISH)


def test_lost_pod_ends_the_job_and_is_not_created_again(server: Server, operator: Operator, kubelet: Kubelet) -> None:
    apply(server, "lost", TWO_NODES)
    pods = kubelet.await_pods("lost", 2)
    for pod in pods:
        kubelet.run_pod(pod)
    await_annotation(kubelet, pods[0], names.ANNOTATION_ATTEMPT)
    kubelet.delete_pod(pods[1])
    assert read_conditions(await_phase(kubelet, "lost", "Failed"))["Failed"] == ("True", "PodLost")
    assert await_annotation(kubelet, pods[0], names.ANNOTATION_FINISH)
    assert len(kubelet.list_pods("lost")) == 1


def test_what_is_not_supported_yet_is_refused_without_pods(
    server: Server, operator: Operator, kubelet: Kubelet
) -> None:
    apply(server, "later", {"suspend": True})
    status = await_phase(kubelet, "later", "Failed")
    assert read_conditions(status) == {
        "Accepted": ("False", "NotYetSupported"),
        "Failed": ("True", "NotYetSupported"),
    }
    assert kubelet.list_pods("later") == []


def test_pod_that_the_api_server_refuses_ends_the_job(server: Server, operator: Operator, kubelet: Kubelet) -> None:
    apply(server, "refused", {"pod": {"affinity": {"nodeAffinities": {}}}})
    status = await_phase(kubelet, "refused", "Failed")
    assert read_conditions(status)["Failed"] == ("True", "PodRejected")
    assert "nodeAffinities" in next(each["message"] for each in status["conditions"] if each["type"] == "Failed")


def test_finished_job_deletes_itself_when_its_time_to_live_is_over(
    server: Server, operator: Operator, kubelet: Kubelet
) -> None:
    apply(server, "brief", {"suspend": True, "lifecycle": {"ttlSecondsAfterFinished": 0}})
    wait_for(lambda: kubelet.read_job("brief").get("code") == 404, "the job is gone", seconds=20)


def test_deleted_job_is_forgotten(server: Server, operator: Operator, kubelet: Kubelet) -> None:
    apply(server, "gone", {"suspend": True})
    await_phase(kubelet, "gone", "Failed")
    server.request("DELETE", f"{JOBS}/gone")
    wait_for(lambda: kubelet.read_job("gone").get("code") == 404, "the job is gone", seconds=10)
    jobs = server.request("GET", JOBS).body["items"]
    failed = sum(job.get("status", {}).get("phase") == "Failed" for job in jobs)
    wait_for(
        lambda: f'finetune_jobs{{phase="Failed"}} {float(failed)}' in try_metrics(operator), "forgotten", seconds=10
    )


def test_logs_are_json_lines(operator: Operator) -> None:
    assert all(json.loads(line)["severity"] for line in operator.log.read_text().splitlines())


def test_job_that_is_applied_again_at_once_does_not_meet_its_past(
    server: Server, operator: Operator, kubelet: Kubelet
) -> None:
    apply(server, "again")
    (first,) = kubelet.await_pods("again", 1)
    kubelet.run_pod(first)
    await_annotation(kubelet, first, names.ANNOTATION_ATTEMPT)
    server.request("DELETE", f"{JOBS}/again")
    apply(server, "again")
    pods = kubelet.await_pods("again", 2)  # no garbage collector runs here, so the former job's pod stays
    second = next(pod for pod in pods if pod["metadata"]["name"] != first["metadata"]["name"])
    assert await_phase(kubelet, "again", "Pending")["attempts"] == []
    kubelet.run_pod(second)
    attempt = Attempt.from_json(await_annotation(kubelet, second, names.ANNOTATION_ATTEMPT))
    assert list(attempt.members.values()) == [kubelet.agents[second["metadata"]["name"]].ip]
