"""A job that is held, by its user or by its budget: stopped with a checkpoint, given back, and resumed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from finetune_contract import names
from finetune_contract.attempt import StopRequest
from finetune_contract.progress import CheckpointRecord
from finetune_operator.actions import Actions, Annotate
from finetune_operator.plan.lifecycle import decide
from finetune_operator.plan.times import format_time
from finetune_operator.snapshot import Snapshot
from tests.control_plane.make import (
    LATER,
    NOW,
    POD_0,
    POD_1,
    make_accepted_job,
    make_answer,
    make_failure,
    make_record,
    make_running_pod,
    make_snapshot,
    make_step,
)
from tests.control_plane.world import (
    asks_for_nothing,
    hear,
    list_created,
    make_training,
    read_conditions,
    read_message,
    run_pods,
    step,
)

TWO_NODES: dict[str, Any] = {"resources": {"nodes": 2}}
REQUEST = StopRequest(attempt=1, reason="Suspended").to_json()


def change_spec(snapshot: Snapshot, **changes: Any) -> Snapshot:
    """The user edits the job."""
    return replace(snapshot, job=make_accepted_job({**TWO_NODES, **changes}), generation=snapshot.generation + 1)


def suspend(snapshot: Snapshot) -> Snapshot:
    return change_spec(snapshot, suspend=True)


def resume(snapshot: Snapshot) -> Snapshot:
    return change_spec(snapshot)


def stop(snapshot: Snapshot, attempt: int = 1, checkpoints: tuple[CheckpointRecord, ...] = ()) -> Snapshot:
    """All agents have stopped."""
    return hear(
        snapshot,
        make_answer(attempt=attempt, phase="Stopped", news=True, step=make_step(), checkpoints=checkpoints),
        make_answer(node=1, attempt=attempt, phase="Stopped", news=True),
    )


def make_suspended() -> Snapshot:
    """A job whose pods are gone, with a checkpoint of step 5."""
    stopping = step(suspend(make_training()), LATER)
    return step(step(stop(stopping, checkpoints=(make_record(5),)), LATER + 5), LATER + 6)


def test_suspended_job_is_asked_to_stop_first() -> None:
    snapshot = suspend(make_training())
    actions = decide(snapshot, LATER)
    assert (actions.create, actions.delete_pods) == ((), ())
    assert actions.annotate == tuple(Annotate(pod, {names.ANNOTATION_STOP: REQUEST}) for pod in (POD_0, POD_1))
    assert actions.status is not None
    assert actions.status.phase == "Suspending"
    assert read_conditions(actions.status) == {
        "Accepted": ("True", "Accepted"),
        "DataReady": ("True", "Prepared"),
        "Running": ("False", "Suspending"),
        "Suspended": ("False", "Suspending"),
    }
    assert read_message(actions.status, "Suspended") == (
        "The workers save a checkpoint and stop; spec.suspend is true: set it to false to go on."
    )
    assert asks_for_nothing(decide(step(snapshot, LATER), LATER))


def test_pods_are_given_back_once_all_have_stopped_and_suspended_is_said_once_they_are_gone() -> None:
    stopped = stop(step(suspend(make_training()), LATER), checkpoints=(make_record(5),))
    actions = decide(stopped, LATER + 5)
    assert actions.delete_pods == (POD_0, POD_1)
    assert actions.status is not None
    (closed,) = actions.status.attempts
    assert (closed.result, closed.reason, closed.last_step) == ("Stopped", "Suspended", 5)
    assert actions.status.phase == "Suspending"

    going = step(stopped, LATER + 5)
    leaving = replace(going, pods=tuple(replace(pod, deletion_time=LATER + 125) for pod in stopped.pods))
    assert asks_for_nothing(decide(leaving, LATER + 6))
    suspended = step(going, LATER + 7)
    assert suspended.status.phase == "Suspended"
    assert read_conditions(suspended.status)["Suspended"] == ("True", "Suspended")
    assert read_message(suspended.status, "Suspended") == (
        "The newest verified checkpoint is of step 5; spec.suspend is true: set it to false to go on."
    )
    assert decide(suspended, LATER + 1e6) == Actions()


def test_workers_that_do_not_stop_are_waited_for_as_long_as_the_user_says() -> None:
    spec: dict[str, Any] = {"lifecycle": {"stopGraceSeconds": 60}}
    stopping = step(change_spec(make_training(spec), suspend=True, **spec), LATER)
    assert asks_for_nothing(decide(stopping, LATER + 59))
    actions = decide(stopping, LATER + 60)
    assert actions.delete_pods == (POD_0, POD_1)


def test_job_that_is_applied_suspended_creates_nothing() -> None:
    snapshot = make_snapshot({**TWO_NODES, "suspend": True})
    actions = decide(snapshot, NOW)
    assert (actions.create, actions.annotate) == ((), ())
    assert actions.status is not None
    assert actions.status.phase == "Suspended"
    assert read_message(actions.status, "Suspended") == (
        "There is no checkpoint yet; spec.suspend is true: set it to false to go on."
    )
    assert decide(step(snapshot, NOW), NOW) == Actions()
    resumed = decide(resume(step(snapshot, NOW)), NOW + 5)
    assert list_created(resumed) == ["ConfigMap/spam-0a1b2-run", "Pod/spam-0a1b2-0-0", "Pod/spam-0a1b2-1-0"]


def test_resumed_job_gets_new_pods_and_goes_on_with_its_clock_set_anew() -> None:
    snapshot = resume(make_suspended())
    actions = decide(snapshot, LATER + 100)
    assert list_created(actions) == ["Pod/spam-0a1b2-0-1", "Pod/spam-0a1b2-1-1"]
    assert actions.status is not None
    assert (actions.status.phase, actions.status.start_time) == ("Starting", None)
    assert read_conditions(actions.status)["Suspended"] == ("False", "Resumed")
    assert [event.reason for event in actions.events] == ["PodsCreated", "Resumed"]

    begun = step(run_pods(step(snapshot, LATER + 100)), LATER + 110)
    assert begun.status.start_time == format_time(LATER + 110)
    resumed = hear(begun, make_answer(attempt=2, resumed_from=5, step=make_step(6)), incarnation=1)
    status = step(resumed, LATER + 120).status
    assert [(each.result, each.lost_steps) for each in status.attempts] == [("Stopped", 0), ("Running", 0)]
    assert (status.phase, status.usage.lost_steps) == ("Running", 0)


def test_suspend_that_is_taken_back_is_finished_and_followed_in_the_same_pods() -> None:
    stopping = step(suspend(make_training()), LATER)
    back = step(resume(stopping), LATER + 1)
    assert read_conditions(back.status)["Suspended"] == ("False", "Resumed")
    assert back.status.phase == "Suspending"
    actions = decide(stop(back), LATER + 5)
    assert (actions.create, actions.delete_pods) == ((), ())
    assert actions.status is not None
    assert [each.result for each in actions.status.attempts] == ["Stopped", "Running"]
    assert actions.status.attempts[1].members == {"0": POD_0, "1": POD_1}
    assert [told.pod for told in actions.annotate] == [POD_0, POD_1]


def test_suspend_that_is_taken_back_while_pods_go_waits_for_new_ones() -> None:
    stopped = stop(step(suspend(make_training()), LATER))
    going = replace(
        step(stopped, LATER + 5), pods=tuple(replace(pod, deletion_time=LATER + 125) for pod in stopped.pods)
    )
    assert list_created(decide(resume(going), LATER + 6)) == ["Pod/spam-0a1b2-0-1", "Pod/spam-0a1b2-1-1"]


def test_toggling_suspend_quickly_leaves_nothing_behind() -> None:
    snapshot = make_training()
    for second in range(5):
        snapshot = step(suspend(snapshot), LATER + 2 * second)
        snapshot = step(resume(snapshot), LATER + 2 * second + 1)
    assert len(snapshot.status.attempts) == 1
    snapshot = step(stop(snapshot), LATER + 12)
    assert [each.result for each in snapshot.status.attempts] == ["Stopped", "Running"]
    assert snapshot.status.phase == "Starting"


def test_pod_that_prepares_is_given_back_at_once() -> None:
    spec = {"data": {"prepare": "pod"}}
    preparing = run_pods(step(make_snapshot({**TWO_NODES, **spec}), NOW))
    held = change_spec(preparing, suspend=True, **spec)
    assert decide(held, LATER).delete_pods == ("spam-0a1b2-prepare-0",)
    suspended = step(step(held, LATER), LATER)
    assert suspended.status.phase == "Suspended"
    assert read_conditions(suspended.status)["DataReady"] == ("False", "Suspended")
    assert list_created(decide(change_spec(suspended, **spec), LATER + 9)) == ["Pod/spam-0a1b2-prepare-0"]


def test_pods_that_end_while_the_job_is_held_are_no_failures() -> None:
    held = make_snapshot({"suspend": True}, pods=(make_running_pod(phase="Failed"),), has_config=True)
    actions = decide(held, NOW)
    assert actions.status is not None
    assert (actions.status.attempts, actions.delete_pods) == ((), (POD_0,))


def test_worker_that_fails_while_it_stops_suspends_the_job_all_the_same() -> None:
    stopping = step(suspend(make_training()), LATER)
    failed = hear(stopping, make_answer(phase="Failed", failure=make_failure(at=LATER)))
    actions = decide(failed, LATER + 5)
    assert actions.status is not None
    assert [each.result for each in actions.status.attempts] == ["Failed"]
    assert actions.delete_pods == (POD_0, POD_1)


def test_time_that_a_job_is_suspended_does_not_count() -> None:
    limits = {"lifecycle": {"activeDeadlineSeconds": 100, "queueDeadlineSeconds": 60}}
    stopping = step(change_spec(make_training(limits), suspend=True, **limits), LATER)
    suspended = step(step(stop(stopping), LATER + 5), LATER + 6)
    assert decide(suspended, LATER + 5000) == Actions()
    resumed = step(change_spec(suspended, **limits), LATER + 5000)
    assert asks_for_nothing(decide(resumed, LATER + 5059))
    late = decide(resumed, LATER + 5060).status
    assert late is not None
    assert read_conditions(late)["Failed"] == ("True", "DeadlineExceeded")
    begun = step(run_pods(resumed), LATER + 5010)
    assert asks_for_nothing(decide(begun, LATER + 5109))
    assert decide(begun, LATER + 5110).annotate != ()


def test_deadline_that_passes_while_the_job_is_suspended_by_its_user_does_not_end_it() -> None:
    limits = {"lifecycle": {"activeDeadlineSeconds": 100}}
    stopping = step(change_spec(make_training(limits), suspend=True, **limits), NOW + 99)
    assert step(stop(stopping), NOW + 101).status.phase == "Suspending"
    late = step(change_spec(make_training(limits), suspend=True, **limits), NOW + 100)
    assert step(stop(late), NOW + 101).status.phase == "Failed"


def make_costly(budget: float = 0.01) -> Snapshot:
    """Two nodes of one GPU each; 0.01 GPU-hours are used up in 18 seconds."""
    spec = {"resources": {"nodes": 2, "gpusPerNode": 1}, "data": {"prepare": "inline"}}
    return make_training({**spec, "budget": {"maxGpuHours": budget}})


def test_budget_that_is_used_up_holds_the_job_until_it_is_raised() -> None:
    snapshot = make_costly(0.02)
    assert decide(snapshot, NOW + 35).requeue_after == pytest.approx(2.0)
    stopping = step(snapshot, NOW + 37)
    assert stopping.pods[0].stop == StopRequest(attempt=1, reason="BudgetExceeded").to_json()
    assert stopping.status.phase == "Suspending"
    held = step(step(stop(stopping), NOW + 40), NOW + 41)
    assert read_conditions(held.status)["Suspended"] == ("True", "BudgetExceeded")
    assert read_message(held.status, "Suspended").endswith(
        "spec.budget.maxGpuHours (0.02) is used up: raise it to go on."
    )
    assert held.status.usage.gpu_seconds == 80.0
    assert decide(held, NOW + 1e6) == Actions()
    raised = replace(held, job=make_costly(1.0).job)
    assert len(list_created(decide(raised, NOW + 60))) == 2


def test_pod_that_does_not_go_holds_the_suspension_up_only_for_a_while() -> None:
    stopped = stop(step(suspend(make_training()), LATER))
    going = replace(step(stopped, LATER + 5), pods=(replace(stopped.pods[0], deletion_time=LATER + 125),))
    assert decide(going, LATER + 154).requeue_after == pytest.approx(1.0)
    assert decide(going, LATER + 155).force_delete_pods == (POD_0,)
