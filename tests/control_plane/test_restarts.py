"""Whatever ends an attempt, the next one follows: in the same pods where they live, in new ones where they do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from finetune_contract import names
from finetune_contract.attempt import Attempt, StopRequest
from finetune_contract.exits import FailureClass
from finetune_contract.progress import RankHeartbeat, StepProgress
from finetune_contract.status import AttemptStatus
from finetune_operator.actions import Actions
from finetune_operator.plan.events import Event
from finetune_operator.plan.lifecycle import decide
from finetune_operator.plan.times import format_time
from finetune_operator.snapshot import Pod, Snapshot
from tests.control_plane.make import (
    LATER,
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


def fail(snapshot: Snapshot, node: int = 1, attempt: int = 1, since: float = LATER, **facts: Any) -> Snapshot:
    """An agent tells of its worker's failure."""
    failure = make_failure(**{"node": node, "at": since, **facts})
    step = make_step() if (node, attempt) == (0, 1) else StepProgress()
    return hear(
        snapshot, make_answer(since, node=node, attempt=attempt, phase="Failed", news=True, failure=failure, step=step)
    )


def change_pod(snapshot: Snapshot, which: int, **facts: Any) -> Snapshot:
    pods = list(snapshot.pods)
    pods[which] = replace(pods[which], **facts)
    return replace(snapshot, pods=tuple(pods))


def read_attempts(actions: Actions) -> tuple[AttemptStatus, ...]:
    assert actions.status is not None
    return actions.status.attempts


def read_told(actions: Actions) -> dict[str, Attempt]:
    return {
        told.pod: Attempt.from_json(told.annotations[names.ANNOTATION_ATTEMPT])
        for told in actions.annotate
        if names.ANNOTATION_ATTEMPT in told.annotations
    }


def test_failed_worker_costs_one_write_and_the_same_pods_go_on_from_the_verified_checkpoint() -> None:
    snapshot = make_training({"training": {"batchSize": 16}}, checkpoints=(make_record(4),))
    failed = fail(snapshot)
    actions = decide(failed, LATER)
    assert (actions.create, actions.delete_pods) == ((), ())
    failure = make_failure(node=1, at=LATER)
    assert read_attempts(actions) == (
        AttemptStatus(
            number=1,
            start_time=format_time(NOW),
            end_time=format_time(LATER),
            nodes=2,
            last_step=5,
            training_seconds=7.5,
            result="Failed",
            reason="CodeCrash",
            failure=failure,
        ),
        AttemptStatus(number=2, start_time=format_time(LATER), nodes=2, members={"0": POD_0, "1": POD_1}),
    )
    told = read_told(actions)
    assert set(told) == {POD_0, POD_1}
    assert told[POD_0] == told[POD_1]
    assert (told[POD_0].number, told[POD_0].master.port) == (2, 29502)
    assert told[POD_0].checkpoints == {"step-00000004-a1": make_record(4).digest}
    assert actions.status is not None
    assert (actions.status.phase, actions.status.restarts) == ("Starting", 1)
    assert actions.events == (
        Event(
            "Warning",
            "AttemptFailed",
            "EndAttempt",
            f"Attempt 1 failed (Code): {failure.message} (node 1, rank 1, exit code 1).",
        ),
        Event("Normal", "AttemptStarted", "StartAttempt", "Attempt 2 started on 2 nodes."),
    )
    assert asks_for_nothing(decide(step(failed, LATER), LATER))


def test_steps_that_have_to_be_done_again_are_counted_once_the_next_attempt_says_where_it_began() -> None:
    snapshot = step(fail(make_training(checkpoints=(make_record(4),))), LATER)
    assert snapshot.status.usage.lost_steps == 0
    answer = make_answer(attempt=2, resumed_from=4, phase="Starting", step=make_step(5, first_step_at=None))
    actions = decide(hear(snapshot, answer), LATER + 5)
    assert [(each.from_step, each.last_step, each.lost_steps) for each in read_attempts(actions)] == [
        (0, 5, 1),
        (4, 4, 0),
    ]
    assert actions.status is not None
    assert actions.status.usage.lost_steps == 1
    note = "Attempt 2 resumes from step 4."
    assert actions.events == (Event("Normal", "AttemptStarted", "ResumeAttempt", note),)


def test_attempt_that_never_trained_neither_lost_steps_nor_explains_those_of_others() -> None:
    snapshot = step(fail(make_training(checkpoints=(make_record(4),))), LATER)
    snapshot = step(fail(snapshot, attempt=2, since=LATER + 5), LATER + 5)
    snapshot = step(snapshot, LATER + 15)
    answer = make_answer(attempt=3, resumed_from=4, step=make_step(5))
    attempts = read_attempts(decide(hear(snapshot, answer), LATER + 40))
    assert [(each.last_step, each.lost_steps) for each in attempts] == [(5, 1), (0, 0), (5, 0)]


def test_steps_that_an_agent_carries_over_from_the_former_attempt_are_not_this_ones() -> None:
    snapshot = step(fail(make_training()), LATER)
    stale = make_answer(attempt=2, phase="Starting", step=make_step(5, first_step_at=None))
    assert step(hear(snapshot, stale), LATER + 20).status.attempts[-1].last_step == 0
    rank = RankHeartbeat(rank=0, phase="training", step=3, at=LATER)
    moving = make_answer(attempt=2, step=make_step(3, first_step_at=None), ranks=(rank,))
    assert step(hear(snapshot, moving), LATER + 20).status.attempts[-1].last_step == 3


def test_first_failure_that_is_not_a_victims_is_the_cause() -> None:
    snapshot = fail(make_training(), node=0, failure_class=FailureClass.PEER_LOST, reason="PodLost", rank=0)
    snapshot = fail(snapshot, node=1, rank=3, since=LATER + 1)
    failure = read_attempts(decide(snapshot, LATER + 2))[0].failure
    assert failure is not None
    assert (failure.failure_class, failure.rank) == (FailureClass.CODE, 3)


def test_kubernetes_node_of_a_failed_worker_is_named() -> None:
    snapshot = fail(change_pod(make_training(), 1, host="node-b"))
    actions = decide(snapshot, LATER)
    failure = read_attempts(actions)[0].failure
    assert failure == make_failure(node=1, at=LATER, host="node-b")
    assert actions.events[0].note.endswith("(node 1, rank 1, on node-b, exit code 1).")


def test_attempt_that_the_spec_ended_says_so() -> None:
    broken = replace(make_training(), job=None, problem="spec.task is missing: add it")
    actions = decide(broken, LATER)
    assert read_attempts(actions)[0].reason == "InvalidSpec"
    assert actions.events[0].note == "Attempt 1 failed: InvalidSpec."


@pytest.mark.parametrize(
    "facts",
    [
        {"failure_class": FailureClass.PEER_LOST, "reason": "PodLost"},
        {"failure_class": FailureClass.HANG, "reason": "HangDetected", "secondary": True},
    ],
)
def test_victim_alone_is_believed_after_a_while(facts: dict[str, Any]) -> None:
    snapshot = fail(make_training(), node=0, **facts)
    assert decide(snapshot, LATER + 14) == Actions(requeue_after=1.0)
    closed = read_attempts(decide(snapshot, LATER + 15))[0]
    assert (closed.result, closed.reason) == ("Failed", facts["reason"])


def test_victims_are_believed_at_once_when_nobody_else_is_left_to_ask() -> None:
    snapshot = fail(make_training(), node=0, failure_class=FailureClass.PEER_LOST)
    snapshot = fail(snapshot, node=1, failure_class=FailureClass.PEER_LOST)
    assert len(read_attempts(decide(snapshot, LATER))) == 2


@pytest.mark.parametrize(
    ("facts", "class_", "message"),
    [
        (
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."},
            FailureClass.INFRASTRUCTURE,
            f"pod {POD_1} ended before the job did (Evicted: The node was low on memory.); another pod takes over"
            " node 1",
        ),
        (
            {"phase": "Succeeded"},
            FailureClass.INFRASTRUCTURE,
            f"pod {POD_1} ended before the job did; another pod takes over node 1",
        ),
        (
            {"phase": "Failed", "reason": "OOMKilled", "exit_code": 137},
            FailureClass.OUT_OF_MEMORY,
            f"pod {POD_1} ran out of memory: raise spec.resources.memory or lower spec.training.microBatchSize",
        ),
    ],
)
def test_pod_that_ended_is_replaced_at_once_and_taken_away(
    facts: dict[str, Any], class_: FailureClass, message: str
) -> None:
    snapshot = change_pod(make_training(), 1, host="node-b", **facts)
    actions = decide(snapshot, LATER)
    (closed,) = read_attempts(actions)
    assert closed.failure is not None
    assert (closed.failure.failure_class, closed.failure.message, closed.failure.host) == (class_, message, "node-b")
    assert list_created(actions) == ["Pod/spam-0a1b2-1-1"]
    assert actions.delete_pods == (POD_1,)
    assert actions.annotate == ()


def test_pod_that_vanished_is_replaced_and_the_others_wait_in_theirs() -> None:
    snapshot = make_training()
    lost = step(replace(snapshot, pods=snapshot.pods[:1]), LATER)
    assert [pod.key.name for pod in lost.pods] == [POD_0, "spam-0a1b2-1-1"]
    assert read_conditions(lost.status)["Running"] == ("False", "PodsStarting")
    assert lost.status.attempts[0].reason == "PodLost"
    assert asks_for_nothing(decide(lost, LATER + 1))
    actions = decide(run_pods(lost), LATER + 5)
    assert read_attempts(actions)[-1].members == {"0": POD_0, "1": "spam-0a1b2-1-1"}
    assert set(read_told(actions)) == {POD_0, "spam-0a1b2-1-1"}


def test_pod_that_is_drained_stops_everybody_with_a_checkpoint_and_is_replaced_meanwhile() -> None:
    drained = change_pod(make_training(), 1, deletion_time=LATER + 120)
    actions = decide(drained, LATER)
    assert list_created(actions) == ["Pod/spam-0a1b2-1-1"]
    request = StopRequest(attempt=1, reason="PodDrained").to_json()
    assert {told.pod: told.annotations for told in actions.annotate} == {
        POD_0: {names.ANNOTATION_STOP: request},
        POD_1: {names.ANNOTATION_STOP: request},
    }
    snapshot = run_pods(step(drained, LATER))
    assert asks_for_nothing(decide(snapshot, LATER + 5))

    gone = replace(snapshot, pods=tuple(pod for pod in snapshot.pods if pod.key.name != POD_1))
    assert asks_for_nothing(decide(gone, LATER + 6))
    actions = decide(hear(gone, make_answer(phase="Stopped", news=True, step=make_step(7))), LATER + 7)
    closed, begun = read_attempts(actions)
    assert (closed.result, closed.reason, closed.failure, closed.last_step) == ("Stopped", "PodDrained", None, 7)
    assert begun.members == {"0": POD_0, "1": "spam-0a1b2-1-1"}
    assert [event.reason for event in actions.events] == ["AttemptStopped", "AttemptStarted"]


def test_pod_that_is_deleted_without_grace_has_nothing_left_to_save() -> None:
    killed = change_pod(make_training(), 1, deletion_time=LATER)
    actions = decide(killed, LATER)
    assert actions.annotate == ()
    assert list_created(actions) == ["Pod/spam-0a1b2-1-1"]
    gone = step(killed, LATER)
    gone = replace(gone, pods=tuple(pod for pod in gone.pods if pod.key.name != POD_1))
    assert read_attempts(decide(gone, LATER + 1))[0].reason == "PodLost"


def test_loss_of_a_leaving_pod_whose_agent_is_silent_is_not_waited_for() -> None:
    snapshot = change_pod(hear(make_training(), make_answer(node=1, heard=LATER)), 1, deletion_time=LATER + 120)
    snapshot = change_pod(snapshot, 1, ready=False)
    stopping = step(snapshot, LATER + 5)
    assert stopping.status.attempts[0].stop_time is not None
    failed = fail(stopping, node=0, failure_class=FailureClass.PEER_LOST, since=LATER + 6)
    assert asks_for_nothing(decide(failed, LATER + 9))
    closed = read_attempts(decide(failed, LATER + 10))[0]
    assert (closed.result, closed.reason) == ("Failed", "PodLost")


def test_silent_agent_of_a_pod_that_is_not_ready_is_lost_and_its_pod_is_taken_away() -> None:
    snapshot = hear(make_training(), make_answer(node=1, heard=LATER))
    assert asks_for_nothing(decide(snapshot, LATER + 1000))
    silent = change_pod(snapshot, 1, ready=False)
    assert asks_for_nothing(decide(silent, LATER + 59))
    actions = decide(silent, LATER + 60)
    closed = read_attempts(actions)[0]
    assert (closed.result, closed.reason) == ("Failed", "PodLost")
    assert actions.delete_pods == (POD_1,)


def test_silence_before_we_listened_means_nothing() -> None:
    snapshot = replace(change_pod(make_training(), 1, ready=False), answers={}, listening_since=LATER)
    assert asks_for_nothing(decide(snapshot, LATER + 59))
    assert not asks_for_nothing(decide(snapshot, LATER + 60))


def test_no_attempt_begins_with_an_agent_that_fell_silent() -> None:
    snapshot = hear(make_training(), make_answer(node=1, heard=LATER - 15))
    waiting = step(fail(snapshot, node=0), LATER)
    assert len(waiting.status.attempts) == 1
    assert read_message(waiting.status, "Running") == (
        f"The agent of pod {POD_1} does not answer: the next attempt waits for it."
    )
    again = step(hear(waiting, make_answer(node=1, heard=LATER + 2)), LATER + 3)
    assert len(again.status.attempts) == 2
    assert decide(waiting, LATER + 45).delete_pods == (POD_1,)


def test_retries_without_progress_wait_and_say_until_when() -> None:
    snapshot = step(fail(make_training()), LATER)
    backing_off = step(fail(snapshot, attempt=2, since=LATER + 5), LATER + 5)
    assert backing_off.status.retry_time == format_time(LATER + 15)
    assert read_conditions(backing_off.status)["Running"] == ("False", "BackingOff")
    assert read_message(backing_off.status, "Running") == (
        f"Attempt 2 failed: {make_failure().message}; attempt 3 begins at {format_time(LATER + 15)} at the earliest."
    )
    assert decide(backing_off, LATER + 5) == Actions(requeue_after=10.0)
    again = step(backing_off, LATER + 15)
    assert (len(again.status.attempts), again.status.retry_time) == (3, None)


def test_crashes_beyond_the_limit_end_the_job_with_the_last_one() -> None:
    snapshot = step(fail(make_training({"lifecycle": {"backoffLimit": 1}})), LATER)
    ended = step(fail(snapshot, attempt=2, since=LATER + 5), LATER + 5)
    assert read_conditions(ended.status)["Failed"] == ("True", "BackoffLimitExceeded")
    assert ended.status.failure == make_failure(node=1, at=LATER + 5)
    assert all(pod.finish for pod in ended.pods)


def test_smaller_micro_batch_is_told_recorded_and_announced() -> None:
    failed = fail(make_training(), failure_class=FailureClass.OUT_OF_MEMORY, reason="OutOfMemory")
    actions = decide(failed, LATER)
    assert read_attempts(actions)[-1].micro_batch_size == 8
    assert read_told(actions)[POD_0].micro_batch_size == 8
    assert actions.events[-1] == Event(
        "Normal", "MicroBatchReduced", "ReduceMicroBatch",
        "Attempt 2 computes 8 rows at a time; the global batch stays.",
    )  # fmt: skip


def test_rollback_hands_out_no_checkpoint_that_holds_the_bad_step() -> None:
    spec = {"failurePolicy": {"numeric": "rollback"}}
    snapshot = make_training(spec, checkpoints=(make_record(2), make_record(3), make_record(4)))
    failed = fail(snapshot, failure_class=FailureClass.NUMERIC, reason="NumericError", step=3)
    actions = decide(failed, LATER)
    assert actions.status is not None
    assert actions.status.skipped_steps == (3,)
    told = read_told(actions)[POD_0]
    assert (set(told.checkpoints), told.skip_steps) == ({"step-00000002-a1"}, (3,))
    assert "StepsSkipped" in [event.reason for event in actions.events]

    later = (make_record(2), make_record(3, attempt=2))
    snapshot = step(hear(step(failed, LATER), make_answer(attempt=2, checkpoints=later)), LATER + 20)
    snapshot = step(fail(snapshot, attempt=2, since=LATER + 21), LATER + 21)
    told = read_told(decide(snapshot, LATER + 60))[POD_0]
    assert set(told.checkpoints) == {"step-00000002-a1", "step-00000003-a2"}


def test_pod_that_fails_before_any_attempt_is_entered_and_replaced() -> None:
    snapshot = step(make_snapshot(), NOW)
    ended = change_pod(snapshot, 0, phase="Failed", exit_code=1)
    actions = decide(ended, LATER)
    (entry,) = read_attempts(actions)
    assert (entry.number, entry.nodes, entry.result, entry.reason) == (1, 0, "Failed", "PodLost")
    assert list_created(actions) == ["Pod/spam-0a1b2-0-1"]
    assert actions.delete_pods == (POD_0,)
    assert actions.events[-1].note.startswith("A pod failed between two attempts (Infrastructure): ")
    replaced = step(ended, LATER)
    assert asks_for_nothing(decide(replaced, LATER + 1))
    begun = step(run_pods(replaced), LATER + 2)
    assert [(each.number, each.nodes) for each in begun.status.attempts] == [(1, 0), (2, 1)]
    assert begun.status.restarts == 0


def test_pods_that_fail_again_and_again_are_created_at_the_pace_of_the_retries() -> None:
    snapshot = step(change_pod(step(make_snapshot(), NOW), 0, phase="Failed"), LATER)
    again = step(change_pod(snapshot, 0, phase="Failed"), LATER + 5)
    assert [each.nodes for each in again.status.attempts] == [0, 0]
    assert again.pods == ()
    assert decide(again, LATER + 5) == Actions(requeue_after=10.0)
    assert list_created(decide(again, LATER + 15)) == ["Pod/spam-0a1b2-0-2"]


def test_agent_that_fails_without_an_attempt_gets_another_pod() -> None:
    snapshot = run_pods(step(make_snapshot({"data": {"prepare": "pod"}}), NOW))
    failure = make_failure(failure_class=FailureClass.STORAGE, reason="StorageError", rank=None)
    failed = hear(snapshot, make_answer(role="prepare", attempt=0, data=None, phase="Failed", failure=failure))
    actions = decide(failed, LATER)
    assert read_attempts(actions)[0].reason == "StorageError"
    assert list_created(actions) == ["Pod/spam-0a1b2-prepare-1"]
    assert actions.delete_pods == ("spam-0a1b2-prepare-0",)
    assert asks_for_nothing(decide(step(failed, LATER), LATER))


def test_prepare_pod_that_ended_without_data_is_replaced() -> None:
    snapshot = make_snapshot({"data": {"prepare": "pod"}}, pods=(make_pod(role="prepare", phase="Failed"),))
    actions = decide(snapshot, NOW)
    assert "Pod/spam-0a1b2-prepare-1" in list_created(actions)
    assert read_attempts(actions)[0].nodes == 0


def test_name_that_is_still_taken_is_waited_for() -> None:
    going = make_pod(0, deletion_time=NOW + 30)
    assert list_created(decide(make_snapshot(pods=(going,), has_config=True), NOW)) == []
    assert list_created(decide(make_snapshot(has_config=True), NOW)) == ["Pod/spam-0a1b2-0-0"]


def test_pod_that_does_not_go_is_taken_out_without_asking_its_node() -> None:
    going = make_pod(0, deletion_time=NOW + 30)
    snapshot = step(make_snapshot(pods=(going,), has_config=True), NOW)
    assert decide(snapshot, NOW + 59).requeue_after == 1.0
    assert decide(snapshot, NOW + 60).force_delete_pods == (POD_0,)


def test_second_pod_of_a_node_goes() -> None:
    old, new = make_running_pod(0), make_running_pod(0, incarnation=1)
    actions = decide(make_snapshot(pods=(old, new), has_config=True), NOW)
    assert actions.delete_pods == (POD_0,)
    assert read_attempts(actions)[0].members == {"0": "spam-0a1b2-0-1"}


def test_outcome_of_a_former_attempt_ends_the_job() -> None:
    snapshot = step(fail(make_training()), LATER)
    ended = step(hear(snapshot, make_answer(attempt=1, phase="Finished", outcome=make_outcome())), LATER + 1)
    assert ended.status.phase == "Succeeded"
    assert [each.result for each in ended.status.attempts] == ["Failed", "Finished"]


def test_pods_that_were_lost_after_the_outcome_get_an_attempt_that_reports_it() -> None:
    snapshot = make_training()
    lost = run_pods(step(replace(snapshot, pods=()), LATER))
    begun = step(lost, LATER + 5)
    assert len(begun.status.attempts) == 2
    answer = make_answer(attempt=2, phase="Finished", outcome=make_outcome())
    assert step(hear(begun, answer, incarnation=1), LATER + 9).status.phase == "Succeeded"


def test_end_that_is_heard_before_anything_else_of_its_attempt_invents_no_lost_steps() -> None:
    snapshot = step(fail(make_training(checkpoints=(make_record(4),))), LATER)
    ended = step(hear(snapshot, make_answer(node=1, attempt=2, outcome=make_outcome(attempt=2))), LATER + 9)
    assert [(each.last_step, each.lost_steps) for each in ended.status.attempts] == [(5, 0), (10, 0)]
    told = make_answer(node=1, attempt=2, resumed_from=4, outcome=make_outcome(attempt=2))
    ended = step(hear(snapshot, told), LATER + 9)
    assert [(each.from_step, each.lost_steps) for each in ended.status.attempts] == [(0, 1), (4, 0)]
    former = make_answer(node=1, attempt=2, outcome=make_outcome(attempt=1))
    ended = step(hear(snapshot, former), LATER + 9)
    assert [(each.last_step, each.lost_steps) for each in ended.status.attempts] == [(5, 0), (0, 0)]


def test_node_that_fails_a_job_twice_is_avoided() -> None:
    def lose(snapshot: Snapshot, now: float) -> Snapshot:
        pods: list[Pod] = [*snapshot.pods[:1], replace(snapshot.pods[-1], phase="Failed", host="node-b")]
        return step(replace(snapshot, pods=tuple(pods)), now)

    snapshot = run_pods(lose(make_training(), LATER))
    assert snapshot.status.avoided_nodes == ()
    snapshot = step(snapshot, LATER + 60)
    failing = replace(snapshot, pods=(snapshot.pods[0], replace(snapshot.pods[1], phase="Failed", host="node-b")))
    actions = decide(failing, LATER + 70)
    assert actions.status is not None
    assert actions.status.avoided_nodes == ("node-b",)
    affinity = actions.create[0]["spec"]["affinity"]["nodeAffinity"]
    (wish,) = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
    assert wish == {
        "weight": 100,
        "preference": {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["node-b"]}]},
    }
    assert "NodeAvoided" in [event.reason for event in actions.events]


def test_oldest_attempts_are_folded_into_sums() -> None:
    snapshot = make_training({"lifecycle": {"backoffLimit": 100}})
    now = LATER
    for number in range(1, 25):
        rank = RankHeartbeat(rank=0, phase="training", step=number * 10, at=now)
        failure = make_failure(node=1, at=now)
        answers = (
            make_answer(now, attempt=number, ranks=(rank,)),
            make_answer(now, node=1, attempt=number, phase="Failed", failure=failure),
        )
        snapshot = step(hear(snapshot, *answers), now)
        now += 10
    status = snapshot.status
    assert [each.number for each in status.attempts] == list(range(6, 26))
    assert status.attempts_folded is not None
    assert (status.attempts_folded.count, status.attempts_folded.counted_failures) == (5, 5)
    assert status.restarts == 24
