"""The life of a job, decision by decision, in a world that obeys."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from finetune_contract import names
from finetune_contract.attempt import Attempt
from finetune_contract.progress import Outcome
from finetune_contract.status import UsageStatus
from finetune_operator.actions import Actions, Annotate
from finetune_operator.plan.conditions import find_condition
from finetune_operator.plan.events import Event
from finetune_operator.plan.lifecycle import decide
from finetune_operator.plan.objects.defaults import NetworkAccess, TrainerDefaults
from finetune_operator.snapshot import Rejection, Snapshot
from tests.control_plane.make import (
    NOW,
    make_answer,
    make_attempt,
    make_member,
    make_outcome,
    make_pod,
    make_running_pod,
    make_snapshot,
    make_step,
    make_summary,
)
from tests.control_plane.world import asks_for_nothing, hear, list_created, read_conditions, run_pods, step

TWO_NODES = {"resources": {"nodes": 2}}
GPUS = {"resources": {"nodes": 2, "gpusPerNode": 1}}


def make_running(**facts: Any) -> Snapshot:
    """A job of one node that trains, as its status already says."""
    snapshot = step(run_pods(step(make_snapshot(), NOW)), NOW + 10)
    return step(hear(snapshot, make_answer(step=make_step(), **facts)), NOW + 20)


def test_new_job_gets_its_config_and_all_pods_at_once() -> None:
    actions = decide(make_snapshot(TWO_NODES), NOW)
    assert list_created(actions) == ["ConfigMap/spam-0a1b2-run", "Pod/spam-0a1b2-0-0", "Pod/spam-0a1b2-1-0"]
    assert actions.status is not None
    assert actions.status.phase == "Pending"
    assert actions.status.resolved is not None
    assert actions.status.observed_generation == 1
    assert actions.events == (Event("Normal", "PodsCreated", "CreatePods", "Created 2 trainer pods."),)
    assert actions.annotate == ()


def test_network_policy_is_made_once_before_the_config_that_stands_for_it() -> None:
    defaults = TrainerDefaults(network=NetworkAccess("system", {"app": "operator"}))
    snapshot = make_snapshot(defaults=defaults)
    assert list_created(decide(snapshot, NOW)) == [
        "NetworkPolicy/spam-0a1b2-network",
        "ConfigMap/spam-0a1b2-run",
        "Pod/spam-0a1b2-0-0",
    ]
    assert asks_for_nothing(decide(step(snapshot, NOW), NOW))


def test_only_the_missing_pod_is_created() -> None:
    snapshot = make_snapshot(TWO_NODES, pods=(make_pod(1),), has_config=True)
    assert list_created(decide(snapshot, NOW)) == ["Pod/spam-0a1b2-0-0"]


def test_attempt_starts_when_all_members_run() -> None:
    snapshot = step(make_snapshot(TWO_NODES), NOW)
    waiting = replace(snapshot, pods=(make_running_pod(0), make_pod(1)))
    assert decide(waiting, NOW + 5).annotate == ()

    actions = decide(run_pods(snapshot), NOW + 10)
    assert actions.status is not None
    assert actions.status.phase == "Preparing"
    assert [attempt.to_data() for attempt in actions.status.attempts] == [
        {
            "number": 1,
            "startTime": "2027-01-15T08:00:10Z",
            "nodes": 2,
            "fromStep": 0,
            "lastStep": 0,
            "lostSteps": 0,
            "trainingSeconds": 0.0,
            "result": "Running",
            "members": {"0": "spam-0a1b2-0-0", "1": "spam-0a1b2-1-0"},
        }
    ]
    assert [told.pod for told in actions.annotate] == ["spam-0a1b2-0-0", "spam-0a1b2-1-0"]
    assert {told.annotations[names.ANNOTATION_ATTEMPT] for told in actions.annotate} == {make_attempt(2).to_json()}
    assert actions.events == (Event("Normal", "AttemptStarted", "StartAttempt", "Attempt 1 started on 2 nodes."),)


def test_member_that_was_not_told_is_told_after_a_restart() -> None:
    snapshot = run_pods(step(make_snapshot(TWO_NODES), NOW))
    told = step(snapshot, NOW)
    interrupted = replace(told, pods=(told.pods[0], replace(told.pods[1], attempt=None)))
    assert decide(interrupted, NOW) == Actions(
        annotate=(Annotate("spam-0a1b2-1-0", {names.ANNOTATION_ATTEMPT: make_attempt(2).to_json()}),),
        requeue_after=decide(told, NOW).requeue_after,
    )


def test_annotation_that_somebody_else_broke_is_written_again() -> None:
    snapshot = step(run_pods(step(make_snapshot(), NOW)), NOW)
    broken = replace(snapshot, pods=(replace(snapshot.pods[0], attempt="?"),))
    assert [told.pod for told in decide(broken, NOW).annotate] == ["spam-0a1b2-0-0"]


def test_phases_follow_the_first_node_in_order() -> None:
    snapshot = step(make_snapshot(), NOW)
    seen = [snapshot.status.phase]
    snapshot = step(run_pods(snapshot), NOW)
    for facts in (
        {"phase": "Preparing", "data": None},
        {"phase": "Starting"},
        {"phase": "Training"},
        {"phase": "Evaluating"},
        {"phase": "Finalizing"},
        {"phase": "Publishing"},
        {"phase": "Finished", "outcome": make_outcome()},
    ):
        snapshot = step(hear(snapshot, make_answer(**facts)), NOW)
        seen.append(snapshot.status.phase)
    assert seen == [
        "Pending",
        "Preparing",
        "Starting",
        "Running",
        "Running",
        "Evaluating",
        "Publishing",
        "Succeeded",
    ]


def test_phase_never_goes_back_within_an_attempt() -> None:
    snapshot = make_running(phase="Publishing")
    assert step(hear(snapshot, make_answer(phase="Training")), NOW + 40).status.phase == "Publishing"


def test_training_status_is_derived_from_the_agent() -> None:
    status = make_running().status
    assert status.data == make_summary()
    assert status.progress is not None
    assert status.progress.to_data() == make_step().to_data() | {
        "percent": 50.0,
        "metrics": {},
        "updatedTime": "2027-01-15T08:00:20Z",
    }
    assert status.attempts[0].last_step == 5
    assert status.attempts[0].training_seconds == 7.5
    assert status.usage == UsageStatus(
        held_seconds=10.0, training_seconds=7.5, time_to_first_step_seconds=20.0, goodput=0.75
    )
    assert read_conditions(status) == {
        "Accepted": ("True", "Accepted"),
        "DataReady": ("True", "Prepared"),
        "Running": ("True", "Training"),
    }


def test_silent_agent_changes_nothing() -> None:
    snapshot = make_running()
    assert asks_for_nothing(decide(replace(snapshot, answers={}), NOW + 1000))


def test_time_alone_changes_nothing() -> None:
    assert asks_for_nothing(decide(make_running(), NOW + 1000))


def test_progress_alone_is_written_every_fifteen_seconds() -> None:
    snapshot = hear(make_running(), make_answer(step=make_step(6)))
    assert asks_for_nothing(decide(snapshot, NOW + 30))
    due = decide(snapshot, NOW + 35)
    assert due.status is not None
    assert due.status.progress is not None
    assert due.status.progress.step == 6
    assert due.events == ()


def test_progress_rides_along_with_any_other_change() -> None:
    snapshot = hear(make_running(), make_answer(step=make_step(6), phase="Finalizing"))
    status = decide(snapshot, NOW + 21).status
    assert status is not None
    assert status.progress is not None
    assert (status.phase, status.progress.step) == ("Evaluating", 6)


def test_gpu_job_prepares_on_a_pod_without_gpus_first() -> None:
    first = decide(make_snapshot(GPUS), NOW)
    assert list_created(first) == ["ConfigMap/spam-0a1b2-run", "Pod/spam-0a1b2-prepare-0"]

    preparing = step(run_pods(step(make_snapshot(GPUS), NOW)), NOW + 5)
    assert preparing.status.phase == "Preparing"
    prepared = hear(preparing, make_answer(role="prepare", attempt=0, phase="Finished", news=True))
    actions = decide(prepared, NOW + 10)
    assert list_created(actions) == ["Pod/spam-0a1b2-0-0", "Pod/spam-0a1b2-1-0"]
    assert actions.annotate == (Annotate("spam-0a1b2-prepare-0", {names.ANNOTATION_FINISH: "Starting"}),)
    assert actions.status is not None
    assert actions.status.phase == "Starting"
    assert read_conditions(actions.status) == {
        "Accepted": ("True", "Accepted"),
        "DataReady": ("True", "Prepared"),
        "Running": ("False", "PodsStarting"),
    }


def test_prepare_pod_that_ended_after_its_work_is_not_missed() -> None:
    preparing = step(run_pods(step(make_snapshot(GPUS), NOW)), NOW + 5)
    snapshot = step(hear(preparing, make_answer(role="prepare", attempt=0, phase="Finished")), NOW + 10)
    prepare = next(pod for pod in snapshot.pods if pod.role == "prepare")
    rest = tuple(pod for pod in snapshot.pods if pod.role != "prepare")
    ended = run_pods(replace(snapshot, pods=(replace(prepare, phase="Succeeded"), *rest)))
    status = decide(ended, NOW + 20).status
    assert status is not None
    assert [attempt.number for attempt in status.attempts] == [1]


def test_waiting_pod_is_explained_in_the_clusters_words_after_a_while() -> None:
    pod = make_pod(reason="Unschedulable", message="0/2 nodes are available: 2 Insufficient nvidia.com/gpu.")
    snapshot = replace(step(make_snapshot(), NOW), pods=(pod,))
    early = decide(snapshot, NOW + 10)
    assert early == Actions(requeue_after=20.0)
    status = decide(snapshot, NOW + 30).status
    assert status is not None
    running = find_condition(status, names.CONDITION_RUNNING)
    assert running is not None
    assert running.reason == "PodsStarting"
    assert running.message == (
        "Pod spam-0a1b2-0-0 waits (Unschedulable): 0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
    )


def test_image_that_cannot_be_pulled_is_named_once() -> None:
    words = 'rpc error: code = NotFound desc = "trainer:1" not found'
    pull = make_pod(reason="ErrImagePull", message=words)
    back_off = make_pod(reason="ImagePullBackOff", message=f'Back-off pulling image "trainer:1": ErrImagePull: {words}')
    first = step(replace(step(make_snapshot(), NOW), pods=(pull,)), NOW + 60)
    running = find_condition(first.status, names.CONDITION_RUNNING)
    assert running is not None
    assert running.message == (
        f"Pod spam-0a1b2-0-0 waits for its image trainer:1 (ErrImagePull): {words};"
        " check spec.pod.image and spec.pod.imagePullSecrets"
    )
    assert asks_for_nothing(decide(replace(first, pods=(back_off,)), NOW + 90))


def test_refused_pod_is_explained_and_tried_again() -> None:
    snapshot = make_snapshot(rejection=Rejection('exceeded quota: "small"', final=False))
    actions = decide(snapshot, NOW)
    assert list_created(actions) == ["ConfigMap/spam-0a1b2-run", "Pod/spam-0a1b2-0-0"]
    assert actions.status is not None
    running = find_condition(actions.status, names.CONDITION_RUNNING)
    assert running is not None
    assert running.message == 'The API server refused a pod: exceeded quota: "small"'
    assert actions.events == ()


def test_missing_config_is_created_again_while_the_job_runs() -> None:
    assert list_created(decide(replace(make_running(), has_config=False), NOW + 21)) == ["ConfigMap/spam-0a1b2-run"]


def test_job_that_is_being_deleted_is_left_to_the_cluster() -> None:
    assert decide(make_snapshot(deleting=True), NOW) == Actions()


def test_wish_that_comes_too_late_is_answered_and_stops_nothing() -> None:
    snapshot = replace(make_running(), unsupported="spec.suspend: not supported yet; remove it", generation=2)
    actions = decide(snapshot, NOW + 21)
    assert actions.status is not None
    assert actions.status.phase == "Running"
    accepted = find_condition(actions.status, names.CONDITION_ACCEPTED)
    assert accepted is not None
    assert accepted.to_data() == {
        "type": "Accepted",
        "status": "False",
        "reason": "NotYetSupported",
        "message": "spec.suspend: not supported yet; remove it; the job goes on without it",
        "lastTransitionTime": "2027-01-15T08:00:21Z",
        "observedGeneration": 2,
    }


def test_what_agents_say_of_another_attempt_is_not_this_ones_progress() -> None:
    snapshot = step(run_pods(step(make_snapshot(), NOW)), NOW)
    assert step(hear(snapshot, make_answer(attempt=0, data=None)), NOW + 1).status.progress is None


def test_warnings_of_agents_are_shown_once() -> None:
    snapshot = make_running(warnings=("2 rows were skipped.", "2 rows were skipped."))
    running = find_condition(step(snapshot, NOW + 60).status, names.CONDITION_RUNNING)
    assert running is not None
    assert running.message == "Training. 2 rows were skipped."


def test_only_the_newest_warnings_are_shown_and_a_new_one_alone_is_not_written_at_once() -> None:
    warnings = tuple(f"No resume point is saved at step {step}." for step in range(4))
    snapshot = step(make_running(warnings=warnings[:1]), NOW + 30)
    more = hear(snapshot, make_answer(step=make_step(), warnings=warnings))
    assert asks_for_nothing(decide(more, NOW + 31))
    running = find_condition(step(more, NOW + 60).status, names.CONDITION_RUNNING)
    assert running is not None
    assert running.message == f"Training. {warnings[2]} {warnings[3]}"


def test_stage_of_preparation_is_shown() -> None:
    snapshot = step(run_pods(step(make_snapshot(), NOW)), NOW)
    answer = make_answer(data=None, phase="Preparing", preparation={"stage": "tokenize", "done": 1, "total": 9})
    condition = find_condition(step(hear(snapshot, answer), NOW + 1).status, names.CONDITION_DATA_READY)
    assert condition is not None
    assert (condition.reason, condition.message) == ("Preparing", "Data and model are being prepared (tokenize).")


def test_members_share_one_attempt_document() -> None:
    actions = decide(run_pods(step(make_snapshot(TWO_NODES), NOW)), NOW)
    attempts = [Attempt.from_json(told.annotations[names.ANNOTATION_ATTEMPT]) for told in actions.annotate]
    assert attempts == [make_attempt(2), make_attempt(2)]


def test_attempt_is_not_told_while_a_member_is_missing() -> None:
    snapshot = step(run_pods(step(make_snapshot(TWO_NODES), NOW)), NOW)
    pods = (replace(snapshot.pods[0], attempt=None), replace(snapshot.pods[1], phase="Unknown"))
    assert asks_for_nothing(decide(replace(snapshot, pods=pods), NOW))


def test_outcome_without_a_word_in_between_ends_the_job() -> None:
    """As after a restart of the operator during publication."""
    outcome: Outcome = make_outcome()
    snapshot = step(run_pods(step(make_snapshot(), NOW)), NOW)
    snapshot = step(hear(snapshot, make_answer(phase="Finished", outcome=outcome)), NOW + 50)
    assert snapshot.status.phase == "Succeeded"
    assert snapshot.status.attempts[0].result == "Finished"
    assert snapshot.status.attempts[0].last_step == 10
    assert make_member().attempt == snapshot.pods[0].attempt
