"""How a job ends, and what becomes of its pods and of itself."""

from __future__ import annotations

from dataclasses import replace

from finetune_contract import names
from finetune_contract.attempt import StopRequest
from finetune_contract.exits import FailureClass
from finetune_operator.actions import Actions, Annotate
from finetune_operator.plan.conditions import find_condition
from finetune_operator.plan.events import Event
from finetune_operator.plan.lifecycle import decide
from finetune_operator.snapshot import Rejection
from tests.control_plane.make import (
    NOW,
    POD_0,
    POD_1,
    make_answer,
    make_failure,
    make_outcome,
    make_pod,
    make_record,
    make_running_pod,
    make_snapshot,
    make_step,
)
from tests.control_plane.test_lifecycle import TWO_NODES
from tests.control_plane.world import asks_for_nothing, hear, make_training, read_conditions, run_pods, step


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
        "usage": {
            "gpuSeconds": 0.0,
            "heldSeconds": 0.0,
            "trainingSeconds": 0.0,
            "lostSeconds": 0.0,
            "lostSteps": 0,
        },
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


def test_failure_that_only_the_user_can_mend_ends_the_job_at_once() -> None:
    failure = make_failure(failure_class=FailureClass.USER, reason="DataError", message="row 7 has no label: add it")
    actions = decide(hear(make_training(), make_answer(node=1, phase="Failed", failure=failure)), NOW + 32)
    assert actions.status is not None
    assert actions.status.failure == failure
    assert actions.status.attempts[0].failure == failure
    failed = find_condition(actions.status, names.CONDITION_FAILED)
    assert failed is not None
    assert (failed.reason, failed.message) == (
        "DataError",
        "row 7 has no label: add it (node 0, rank 1, exit code 1)",
    )
    assert actions.annotate == (finish(POD_0, "Failed"), finish(POD_1, "Failed"))
    assert [event.reason for event in actions.events] == ["AttemptFailed", "DataError"]


def test_user_error_before_any_attempt_ends_the_job_too() -> None:
    snapshot = run_pods(step(make_snapshot(TWO_NODES), NOW))
    failure = make_failure(failure_class=FailureClass.USER, reason="UserError")
    status = decide(hear(snapshot, make_answer(attempt=0, data=None, phase="Failed", failure=failure)), NOW).status
    assert status is not None
    assert status.failure == failure
    assert read_conditions(status) == {
        "Accepted": ("True", "Accepted"),
        "DataReady": ("False", "UserError"),
        "Running": ("False", "UserError"),
        "Failed": ("True", "UserError"),
    }


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


def test_overdue_job_is_stopped_first_and_ends_with_its_checkpoint() -> None:
    limits = {"activeDeadlineSeconds": 60, "stopGraceSeconds": 100}
    snapshot = make_training({"lifecycle": limits})
    assert decide(snapshot, NOW + 59).requeue_after == 1.0
    stopping = step(snapshot, NOW + 60)
    assert read_conditions(stopping.status)["Running"] == ("True", "Training")
    request = StopRequest(attempt=1, reason="DeadlineExceeded").to_json()
    assert [pod.stop for pod in stopping.pods] == [request, request]
    assert asks_for_nothing(decide(stopping, NOW + 70))

    stopped = hear(
        stopping, make_answer(phase="Stopped", checkpoints=(make_record(5),)), make_answer(node=1, phase="Stopped")
    )
    actions = decide(stopped, NOW + 70)
    assert actions.status is not None
    assert read_conditions(actions.status)["Failed"] == ("True", "DeadlineExceeded")
    assert actions.status.checkpoints == (make_record(5),)
    assert (actions.status.attempts[0].result, actions.status.attempts[0].reason) == ("Stopped", "DeadlineExceeded")
    assert actions.annotate == (finish(POD_0, "Failed"), finish(POD_1, "Failed"))


def test_overdue_job_that_does_not_stop_ends_when_its_grace_is_over() -> None:
    stopping = step(make_training({"lifecycle": {"activeDeadlineSeconds": 60, "stopGraceSeconds": 100}}), NOW + 60)
    assert asks_for_nothing(decide(stopping, NOW + 159))
    status = decide(stopping, NOW + 160).status
    assert status is not None
    assert read_conditions(status)["Failed"] == ("True", "DeadlineExceeded")


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


def test_last_step_is_known_also_where_the_end_is_heard_of_another_node_first() -> None:
    training = step(run_pods(step(make_snapshot(TWO_NODES), NOW)), NOW + 1)
    outcome = make_outcome(step=5)
    told = make_answer(node=1, phase="Finished", outcome=outcome, step=make_step(10))
    status = decide(hear(training, told), NOW + 60).status
    assert status is not None
    assert [(attempt.result, attempt.last_step) for attempt in status.attempts] == [("Finished", 10)]
