"""How a job ends, and what becomes of its pods and of itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from finetune_contract import names
from finetune_contract.exits import FailureClass
from finetune_operator.actions import Actions, Annotate
from finetune_operator.plan.conditions import find_condition
from finetune_operator.plan.events import Event
from finetune_operator.plan.lifecycle import decide
from finetune_operator.snapshot import Rejection, Snapshot
from tests.control_plane.make import (
    NOW,
    make_answer,
    make_failure,
    make_member,
    make_outcome,
    make_pod,
    make_running_pod,
    make_snapshot,
    make_step,
)
from tests.control_plane.test_lifecycle import TWO_NODES, read_conditions
from tests.control_plane.world import asks_for_nothing, hear, run_pods, step

POD_0, POD_1 = "spam-0a1b2-0-0", "spam-0a1b2-1-0"


def make_training(spec: dict[str, object] | None = None) -> Snapshot:
    """A job on two nodes whose attempt is under way."""
    snapshot = step(run_pods(step(make_snapshot({**TWO_NODES, **(spec or {})}), NOW)), NOW)
    return step(hear(snapshot, make_answer(step=make_step()), make_answer(node=1)), NOW + 20)


def finish(pod: str, phase: str) -> Annotate:
    return Annotate(pod, {names.ANNOTATION_FINISH: phase})


def test_invalid_spec_is_refused_at_once_and_for_ever() -> None:
    snapshot = make_snapshot(job=None, problem="spec.task is missing: add it")
    actions = decide(snapshot, NOW)
    assert actions.create == ()
    assert actions.status is not None
    assert actions.status.to_data() == {
        "observedGeneration": 1,
        "conditions": [
            {
                "type": type_,
                "status": value,
                "reason": "InvalidSpec",
                "message": "spec.task is missing: add it",
                "lastTransitionTime": "2027-01-15T08:00:00Z",
                "observedGeneration": 1,
            }
            for type_, value in (("Accepted", "False"), ("Failed", "True"))
        ],
        "phase": "Failed",
        "completionTime": "2027-01-15T08:00:00Z",
        "attempts": [],
        "restarts": 0,
        "avoidedNodes": [],
        "skippedSteps": [],
        "checkpoints": [],
        "usage": {"gpuSeconds": 0.0, "lostSteps": 0},
        "display": {"reason": "InvalidSpec"},
    }
    assert actions.events == (Event("Warning", "InvalidSpec", "Failed", "spec.task is missing: add it"),)
    assert decide(step(snapshot, NOW), NOW + 1e6) == Actions()


def test_what_is_not_supported_is_refused_with_its_own_reason() -> None:
    status = decide(make_snapshot(unsupported="spec.budget is not supported yet"), NOW).status
    assert status is not None
    assert read_conditions(status) == {
        "Accepted": ("False", "NotYetSupported"),
        "Failed": ("True", "NotYetSupported"),
    }


def test_success_is_written_as_a_whole_before_agents_may_finish() -> None:
    outcome = make_outcome()
    snapshot = hear(make_training(), make_answer(phase="Finished", outcome=outcome, news=True))
    actions = decide(snapshot, NOW + 100)
    status = actions.status
    assert status is not None
    assert (status.phase, status.evaluation, status.published, status.report, status.failure) == (
        "Succeeded",
        outcome.evaluation,
        outcome.published,
        outcome.report,
        None,
    )
    assert status.completion_time == "2027-01-15T08:01:40Z"
    assert read_conditions(status) == {
        "Accepted": ("True", "Accepted"),
        "DataReady": ("True", "Prepared"),
        "Running": ("False", "Finished"),
        "Succeeded": ("True", "Published"),
    }
    assert actions.annotate == (finish(POD_0, "Succeeded"), finish(POD_1, "Succeeded"))
    assert actions.events == (Event("Normal", "Published", "Succeeded", "The model passed its gate."),)


def test_missed_gate_is_a_failed_job_with_a_finished_attempt() -> None:
    outcome = make_outcome(succeeded=False)
    status = decide(hear(make_training(), make_answer(phase="Finished", outcome=outcome)), NOW + 100).status
    assert status is not None
    assert read_conditions(status)["Failed"] == ("True", "GateFailed")
    assert status.attempts[0].result == "Finished"
    assert (status.published, status.evaluation) == (None, outcome.evaluation)


def test_first_failure_that_is_not_a_victims_is_the_cause() -> None:
    victim = make_failure(failure_class=FailureClass.PEER_LOST, reason="PodLost", node=0, rank=0, at=NOW + 29)
    cause = make_failure(node=1, rank=3, at=NOW + 30)
    later = make_failure(node=1, rank=2, at=NOW + 31)
    snapshot = hear(
        make_training(),
        make_answer(phase="Failed", failure=victim),
        make_answer(node=1, phase="Failed", failure=cause),
    )
    actions = decide(snapshot, NOW + 32)
    assert actions.status is not None
    assert actions.status.failure == cause
    assert actions.status.attempts[0].failure == cause
    failed = find_condition(actions.status, names.CONDITION_FAILED)
    assert failed is not None
    assert (failed.reason, failed.message) == ("CodeCrash", f"{cause.message} (node 1, rank 3, exit code 1)")
    assert actions.annotate == (finish(POD_0, "Failed"), finish(POD_1, "Failed"))
    assert later.at > cause.at


def test_victim_alone_is_believed_after_a_while() -> None:
    victim = make_failure(failure_class=FailureClass.PEER_LOST, reason="PodLost")
    snapshot = hear(make_training(), make_answer(NOW + 30, phase="Failed", failure=victim, step=make_step()))
    assert decide(snapshot, NOW + 44) == Actions(requeue_after=1.0)
    status = decide(snapshot, NOW + 45).status
    assert status is not None
    assert status.failure == victim


def test_failure_before_any_attempt_ends_the_job_too() -> None:
    snapshot = run_pods(step(make_snapshot(TWO_NODES), NOW))
    failing = hear(snapshot, make_answer(attempt=0, data=None, phase="Failed", failure=make_failure()))
    status = decide(failing, NOW).status
    assert status is not None
    assert status.failure == make_failure()
    assert read_conditions(status) == {
        "Accepted": ("True", "Accepted"),
        "DataReady": ("False", "CodeCrash"),
        "Running": ("False", "CodeCrash"),
        "Failed": ("True", "CodeCrash"),
    }


@pytest.mark.parametrize(
    ("facts", "reason", "message"),
    [
        (
            {"reason": "Evicted", "message": "The node was low on memory."},
            "PodLost",
            f"pod {POD_1} ended before the job did (Evicted: The node was low on memory.): see its logs with"
            f" kubectl logs {POD_1}, and apply the job again under another name (node 1)",
        ),
        (
            {"exit_code": 1},
            "PodLost",
            f"pod {POD_1} ended before the job did: see its logs with kubectl logs {POD_1},"
            " and apply the job again under another name (node 1, exit code 1)",
        ),
        (
            {"reason": "OOMKilled", "exit_code": 137},
            "OutOfMemory",
            f"pod {POD_1} ran out of memory: raise spec.resources.memory or lower"
            " spec.training.microBatchSize (node 1, exit code 137)",
        ),
    ],
)
def test_pod_that_failed_ends_the_job(facts: dict[str, object], reason: str, message: str) -> None:
    snapshot = make_training()
    snapshot = replace(snapshot, pods=(snapshot.pods[0], make_member(1, nodes=2, phase="Failed", **facts)))
    actions = decide(snapshot, NOW + 30)
    assert actions.status is not None
    failed = find_condition(actions.status, names.CONDITION_FAILED)
    assert failed is not None
    assert (failed.reason, failed.message) == (reason, message)
    assert actions.annotate == (finish(POD_0, "Failed"),)


def test_pod_that_vanished_ends_the_job_and_is_not_created_again() -> None:
    snapshot = make_training()
    actions = decide(replace(snapshot, pods=snapshot.pods[:1]), NOW + 30)
    assert actions.create == ()
    assert actions.status is not None
    assert actions.status.failure is not None
    assert (actions.status.failure.reason, actions.status.failure.node) == ("PodLost", 1)


def test_pod_that_succeeded_without_an_outcome_is_lost() -> None:
    snapshot = make_training()
    pods = (replace(snapshot.pods[0], phase="Succeeded"), snapshot.pods[1])
    status = decide(replace(snapshot, pods=pods, answers={}), NOW + 30).status
    assert status is not None
    assert read_conditions(status)["Failed"] == ("True", "PodLost")


def test_prepare_pod_that_ended_without_data_is_lost() -> None:
    snapshot = make_snapshot({"data": {"prepare": "pod"}}, pods=(make_pod(role="prepare", phase="Failed"),))
    status = decide(snapshot, NOW).status
    assert status is not None
    assert read_conditions(status)["Failed"] == ("True", "PodLost")


def test_pod_that_can_never_be_accepted_ends_the_job() -> None:
    snapshot = make_snapshot(rejection=Rejection("spec.nodeSelector is wrong", final=True))
    status = decide(snapshot, NOW).status
    assert status is not None
    failed = find_condition(status, names.CONDITION_FAILED)
    assert failed is not None
    assert (failed.reason, failed.message) == (
        "PodRejected",
        "The API server refused a pod: spec.nodeSelector is wrong; change spec.pod or spec.resources",
    )


def test_overdue_job_is_stopped_first_and_finished_when_it_has_stopped() -> None:
    limits = {"activeDeadlineSeconds": 60, "stopGraceSeconds": 100}
    snapshot = make_training({"lifecycle": limits})
    assert decide(snapshot, NOW + 59).requeue_after == 1.0
    actions = decide(snapshot, NOW + 60)
    assert actions.status is not None
    assert read_conditions(actions.status)["Failed"] == ("True", "DeadlineExceeded")
    assert actions.annotate == tuple(Annotate(pod, {names.ANNOTATION_STOP: "Failed"}) for pod in (POD_0, POD_1))
    assert actions.requeue_after == 100.0

    stopping = step(snapshot, NOW + 60)
    assert asks_for_nothing(decide(stopping, NOW + 70))
    stopped = hear(stopping, make_answer(phase="Stopped"))
    assert decide(stopped, NOW + 70).annotate == (finish(POD_0, "Failed"),)
    assert decide(stopping, NOW + 160).annotate == (finish(POD_0, "Failed"), finish(POD_1, "Failed"))


def test_job_whose_pods_do_not_start_in_time_fails_and_takes_them_back() -> None:
    snapshot = step(make_snapshot({"lifecycle": {"queueDeadlineSeconds": 60}}), NOW)
    assert asks_for_nothing(decide(snapshot, NOW + 59))
    actions = decide(snapshot, NOW + 60)
    assert actions.status is not None
    assert read_conditions(actions.status)["Failed"] == ("True", "DeadlineExceeded")
    assert actions.delete_pods == (POD_0,)


def test_time_that_preparation_takes_is_no_waiting_for_pods() -> None:
    spec = {"data": {"prepare": "pod"}, "lifecycle": {"queueDeadlineSeconds": 60}}
    snapshot = step(run_pods(step(make_snapshot(spec), NOW)), NOW + 1)
    assert asks_for_nothing(decide(snapshot, NOW + 1000))
    prepared = step(hear(snapshot, make_answer(role="prepare", attempt=0, phase="Finished")), NOW + 1000)
    assert prepared.status.phase == "Starting"
    assert decide(prepared, NOW + 1060).status is not None


def test_pod_that_does_not_listen_is_deleted_in_the_end() -> None:
    snapshot = step(hear(make_training(), make_answer(outcome=make_outcome())), NOW)
    assert decide(snapshot, NOW + 299) == Actions(requeue_after=1.0)
    assert decide(snapshot, NOW + 300) == Actions(delete_pods=(POD_0, POD_1))


def test_pods_that_ended_stay_for_their_logs() -> None:
    snapshot = step(hear(make_training(), make_answer(outcome=make_outcome())), NOW)
    ended = replace(snapshot, pods=tuple(replace(pod, phase="Succeeded") for pod in snapshot.pods))
    assert decide(ended, NOW + 1e6) == Actions()


def test_finished_job_deletes_itself_when_its_time_to_live_is_over() -> None:
    snapshot = make_training({"lifecycle": {"ttlSecondsAfterFinished": 10}})
    snapshot = step(hear(snapshot, make_answer(outcome=make_outcome())), NOW)
    snapshot = replace(snapshot, pods=())
    assert decide(snapshot, NOW + 4) == Actions(requeue_after=6.0)
    assert decide(snapshot, NOW + 10) == Actions(delete_job=True)


def test_running_job_does_not_delete_itself() -> None:
    snapshot = make_training({"lifecycle": {"ttlSecondsAfterFinished": 0}})
    assert not decide(snapshot, NOW + 1e6).delete_job


def test_gpu_seconds_are_counted_to_the_end() -> None:
    spec = {"resources": {"gpusPerNode": 2}, "data": {"prepare": "inline"}}
    snapshot = step(run_pods(step(make_snapshot(spec), NOW)), NOW)
    status = decide(hear(snapshot, make_answer(outcome=make_outcome())), NOW + 100).status
    assert status is not None
    assert status.usage.gpu_seconds == 200.0


def test_ending_job_without_an_agent_that_was_told_anything_needs_no_stop() -> None:
    spec = {"lifecycle": {"queueDeadlineSeconds": 60}, **TWO_NODES}
    snapshot = replace(step(make_snapshot(spec), NOW), pods=(make_running_pod(0), make_pod(1)))
    actions = decide(snapshot, NOW + 60)
    assert actions.annotate == (finish(POD_0, "Failed"),)
    assert actions.delete_pods == (POD_1,)
