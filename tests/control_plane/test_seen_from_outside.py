"""What others see of a job besides its status: its NetworkPolicy, its series, its lines in the operator's log."""

from __future__ import annotations

import json

from finetune_contract import names
from finetune_operator.plan.objects.defaults import NetworkAccess
from finetune_operator.plan.objects.network_policy import make_network_policy
from tests.contract.make import make_job
from tests.contract.server import Server
from tests.control_plane.kubelet import Kubelet, Operator
from tests.control_plane.make import make_failure, make_outcome, make_record, make_step, make_summary
from tests.control_plane.story import apply, await_annotation, await_phase, read_metrics
from tests.waiting import wait_for

POLICIES = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies"
TWO_NODES = {"resources": {"nodes": 2}}


def test_network_policy_of_a_job_is_accepted_as_it_is_written(
    server: Server, operator: Operator, kubelet: Kubelet
) -> None:
    apply(server, "fenced")
    (pod,) = kubelet.await_pods("fenced", 1)
    metadata = kubelet.read_job("fenced")["metadata"]
    job = make_job(name="fenced", uid=metadata["uid"])
    wanted = make_network_policy(job, NetworkAccess("default", {"app.kubernetes.io/name": "finetune-operator"}))
    stored = server.request("GET", f"{POLICIES}/{wanted['metadata']['name']}").body
    assert stored["spec"] == wanted["spec"]
    assert {name: stored["metadata"][name] for name in wanted["metadata"]} == wanted["metadata"]
    assert wanted["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


def test_series_and_log_of_a_job_tell_its_life(server: Server, operator: Operator, kubelet: Kubelet) -> None:
    apply(server, "told", TWO_NODES)
    pods = kubelet.await_pods("told", 2)
    agents = [kubelet.run_pod(pod) for pod in pods]
    await_annotation(kubelet, pods[0], names.ANNOTATION_ATTEMPT)
    training = {"phase": "Training", "data": make_summary(), "checkpoints": (make_record(4),)}
    agents[0].say(attempt=1, step=make_step(), **training)
    await_phase(kubelet, "told", "Running")
    agents[0].say(phase="Failed", failure=make_failure(), news=True)
    kubelet.flip_ready(pods[0], False)
    wait_for(lambda: len(kubelet.read_job("told")["status"]["attempts"]) == 2, "the next attempt begins", seconds=20)
    agents[0].say(attempt=2, resumed_from=4, step=make_step(6), failure=None, news=False, **training)
    kubelet.flip_ready(pods[0], True)
    await_phase(kubelet, "told", "Running")
    agents[0].say(phase="Finished", step=make_step(10), outcome=make_outcome(attempt=2), news=True)
    kubelet.flip_ready(pods[0], False)
    await_phase(kubelet, "told", "Succeeded")
    told = [line for line in read_metrics(operator).splitlines() if 'job="told"' in line]
    for line in (
        'finetune_job_info{job="told",method="full",namespace="default",phase="Succeeded",queue="",'
        'reason="Published",task="text-classification"} 1.0',
        'finetune_job_step{job="told",namespace="default"} 10.0',
        'finetune_job_attempts_total{job="told",namespace="default",reason="CodeCrash",result="Failed"} 1.0',
        'finetune_job_attempts_total{job="told",namespace="default",reason="Finished",result="Finished"} 1.0',
        'finetune_job_training_seconds_total{job="told",namespace="default",queue=""} 15.0',
        'finetune_job_lost_seconds_total{job="told",namespace="default",queue=""} 1.5',
        'finetune_job_lost_steps_total{job="told",namespace="default",queue=""} 1.0',
    ):
        assert line in told
    assert 'finetune_events_total{reason="Published",type="Normal"} 1.0' in read_metrics(operator)
    lines = [json.loads(line) for line in operator.log.read_text(encoding="utf-8").splitlines()]
    assert all({"time", "severity", "logger", "message"} <= line.keys() for line in lines)
    story = [(line.get("attempt"), line.get("event") or line["message"]) for line in lines if line.get("job") == "told"]
    assert story == [
        (None, "PodsCreated"),
        (1, "AttemptStarted"),
        (1, "Preparing, was Pending"),
        (1, "Prepared"),
        (1, "Training"),
        (1, "Running, was Preparing"),
        (2, "AttemptFailed"),
        (2, "AttemptStarted"),
        (2, "Starting, was Running"),
        (2, "AttemptStarted"),
        (2, "Training"),
        (2, "Running, was Starting"),
        (2, "Published"),
        (2, "Succeeded, was Running"),
    ]
