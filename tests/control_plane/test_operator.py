"""The operator as a process on a real API server; the test plays kubelet and agents."""

from __future__ import annotations

import json
from typing import Any

from finetune_contract import names
from finetune_contract.attempt import Attempt, StopRequest
from tests.contract.server import JOBS, Server
from tests.control_plane.kubelet import Kubelet, Operator
from tests.control_plane.make import make_failure, make_outcome, make_record, make_step, make_summary
from tests.control_plane.story import (
    apply,
    await_annotation,
    await_phase,
    list_events,
    patch_job,
    read_conditions,
    read_metrics,
    read_status,
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


def start(server: Server, kubelet: Kubelet, name: str, spec: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """A job on two nodes whose first attempt has a verified checkpoint of step 4 and has done 5 steps."""
    apply(server, name, {**TWO_NODES, **(spec or {})})
    pods = kubelet.await_pods(name, 2)
    agents = [kubelet.run_pod(pod) for pod in pods]
    await_attempt(kubelet, pods, 1)
    agents[1].say(attempt=1, phase="Training", data=make_summary())
    records = (make_record(4),)
    agents[0].say(attempt=1, phase="Training", data=make_summary(), step=make_step(), checkpoints=records, best_step=4)
    wait_for(lambda: read_status(kubelet, name).get("checkpoints"), "the checkpoint is known", seconds=20)
    return pods


def await_attempt(kubelet: Kubelet, pods: list[dict[str, Any]], number: int) -> Attempt:
    """The members' common annotation, once it has this number."""

    def read() -> list[Attempt]:
        texts = [kubelet.read_annotations(pod).get(names.ANNOTATION_ATTEMPT) for pod in pods]
        attempts = [Attempt.from_json(text) for text in texts if text]
        return attempts if [each.number for each in attempts] == [number] * len(pods) else []

    attempts = wait_for(read, f"attempt {number} is annotated", seconds=20)
    assert attempts == attempts[:1] * len(pods)
    return attempts[0]


def say(kubelet: Kubelet, pod: dict[str, Any], **facts: Any) -> None:
    """An agent has news."""
    kubelet.agents[pod["metadata"]["name"]].say(news=True, **facts)
    kubelet.flip_ready(pod, False)


def read_uids(pods: list[dict[str, Any]]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods}


def test_job_goes_on_in_the_same_pods_after_a_workers_failure(
    server: Server, operator: Operator, kubelet: Kubelet
) -> None:
    pods = start(server, kubelet, "crash")
    say(kubelet, pods[1], phase="Failed", failure=make_failure(node=1))
    attempt = await_attempt(kubelet, pods, 2)
    assert attempt.checkpoints == {"step-00000004-a1": make_record(4).digest}
    assert read_uids(kubelet.list_pods("crash")) == read_uids(pods)
    first, second = read_status(kubelet, "crash")["attempts"]
    assert (first["result"], first["reason"], first["failure"]) == (
        "Failed",
        "CodeCrash",
        make_failure(node=1).to_data(),
    )
    assert (second["number"], second["result"]) == (2, "Running")

    kubelet.agents[pods[0]["metadata"]["name"]].say(
        attempt=2, phase="Finished", outcome=make_outcome(), failure=None, news=True, resumed_from=4
    )
    status = await_phase(kubelet, "crash", "Succeeded")
    assert [(each["result"], each["lostSteps"]) for each in status["attempts"]] == [("Failed", 1), ("Finished", 0)]
    assert status["restarts"] == 1
    expected = {"AttemptFailed", "AttemptStarted", "CheckpointVerified", "PodsCreated", "Prepared", "Published"}
    wait_for(lambda: expected <= set(list_events(server, "crash")), "the story is told", seconds=10)


def test_crashes_beyond_the_limit_end_the_job_with_the_last_cause(
    server: Server, operator: Operator, kubelet: Kubelet
) -> None:
    pods = start(server, kubelet, "limit", {"lifecycle": {"backoffLimit": 0}})
    say(kubelet, pods[1], phase="Failed", failure=make_failure(node=1))
    status = await_phase(kubelet, "limit", "Failed")
    assert status["failure"] == make_failure(node=1).to_data()
    assert read_conditions(status)["Failed"] == ("True", "BackoffLimitExceeded")
    assert await_annotation(kubelet, pods[0], names.ANNOTATION_FINISH)


def test_lost_pod_is_replaced_alone_and_the_others_wait_in_theirs(
    server: Server, operator: Operator, kubelet: Kubelet
) -> None:
    pods = start(server, kubelet, "lost")
    kubelet.delete_pod(pods[1])
    wait_for(lambda: len(kubelet.list_pods("lost")) == 2, "the pod is replaced", seconds=20)
    kept, replacement = kubelet.list_pods("lost")
    assert kept["metadata"]["uid"] == pods[0]["metadata"]["uid"]
    assert replacement["metadata"]["name"].endswith("-1-1")
    kubelet.run_pod(replacement)
    attempt = await_attempt(kubelet, [kept, replacement], 2)
    assert attempt.members["1"] == kubelet.agents[replacement["metadata"]["name"]].ip
    first = read_status(kubelet, "lost")["attempts"][0]
    assert (first["result"], first["reason"]) == ("Failed", "PodLost")


def test_suspended_job_gives_its_pods_back_and_resumes_in_new_ones(
    server: Server, operator: Operator, kubelet: Kubelet
) -> None:
    pods = start(server, kubelet, "pause")
    patch_job(server, "pause", {"suspend": True})
    for pod in pods:
        request = StopRequest.from_json(await_annotation(kubelet, pod, names.ANNOTATION_STOP))
        assert request == StopRequest(attempt=1, reason="Suspended")
    for pod in pods:
        say(kubelet, pod, phase="Stopped")
    kubelet.await_pods("pause", 0)  # pods that no node was given go at once
    status = await_phase(kubelet, "pause", "Suspended")
    assert read_conditions(status)["Suspended"] == ("True", "Suspended")

    patch_job(server, "pause", {"suspend": False})
    fresh = kubelet.await_pods("pause", 2)
    assert read_uids(fresh).isdisjoint(read_uids(pods))
    for pod in fresh:
        kubelet.run_pod(pod)
    assert await_attempt(kubelet, fresh, 2).checkpoints == {"step-00000004-a1": make_record(4).digest}
    status = read_status(kubelet, "pause")
    assert read_conditions(status)["Suspended"] == ("False", "Resumed")
    assert [each["result"] for each in status["attempts"]] == ["Stopped", "Running"]


def test_what_is_not_supported_yet_is_refused_without_pods(
    server: Server, operator: Operator, kubelet: Kubelet
) -> None:
    apply(server, "later", labels={names.LABEL_QUEUE: "research"})
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
    apply(server, "brief", {"lifecycle": {"ttlSecondsAfterFinished": 0}}, labels={names.LABEL_QUEUE: "research"})
    wait_for(lambda: kubelet.read_job("brief").get("code") == 404, "the job is gone", seconds=20)


def test_deleted_job_is_forgotten(server: Server, operator: Operator, kubelet: Kubelet) -> None:
    apply(server, "gone", labels={names.LABEL_QUEUE: "research"})
    await_phase(kubelet, "gone", "Failed")
    wait_for(lambda: 'job="gone"' in read_metrics(operator), "its series begin", seconds=10)
    server.request("DELETE", f"{JOBS}/gone")
    wait_for(lambda: kubelet.read_job("gone").get("code") == 404, "the job is gone", seconds=10)
    wait_for(lambda: 'job="gone"' not in read_metrics(operator), "its series end", seconds=10)


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
