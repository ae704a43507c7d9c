"""Nodes come and go within `resources.elastic`: fewer after some patience, more at a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from finetune_contract.attempt import StopRequest
from finetune_operator.actions import Actions
from finetune_operator.plan.lifecycle import decide
from finetune_operator.snapshot import Snapshot
from tests.control_plane.make import (
    LATER,
    NOW,
    make_accepted_job,
    make_answer,
    make_running_pod,
    make_snapshot,
    make_step,
)
from tests.control_plane.world import asks_for_nothing, hear, list_created, run_pods, step


def make_spec(least: int = 1, most: int = 3, nodes: int = 2) -> dict[str, Any]:
    elastic = {"minNodes": least, "maxNodes": most, "patienceSeconds": 60}
    return {"resources": {"nodes": nodes, "elastic": elastic}}


def make_waiting(*running: int, **bounds: int) -> Snapshot:
    """A job that was applied at NOW and of whose pods these run."""
    snapshot = step(make_snapshot(make_spec(**bounds)), NOW)
    pods = [make_running_pod(pod.node_index) if pod.node_index in running else pod for pod in snapshot.pods]
    return replace(snapshot, pods=tuple(pods))


def make_small() -> Snapshot:
    """Two of three nodes train."""
    snapshot = step(make_waiting(0, 1), LATER)
    return step(hear(snapshot, make_answer(step=make_step()), make_answer(node=1)), LATER + 5)


def read_members(actions: Actions) -> list[dict[str, str]]:
    return [attempt.members for attempt in actions.status.attempts] if actions.status else []


def test_pods_are_created_up_to_the_upper_bound() -> None:
    created = list_created(decide(make_snapshot(make_spec(most=3)), NOW))
    assert created[1:] == [f"Pod/spam-0a1b2-{index}-0" for index in range(3)]


def test_attempt_begins_as_soon_as_the_wished_number_runs() -> None:
    assert read_members(decide(make_waiting(0), LATER)) == []
    assert read_members(decide(make_waiting(0, 2), LATER)) == [{"0": "spam-0a1b2-0-0", "2": "spam-0a1b2-2-0"}]


def test_fewer_nodes_begin_when_patience_is_over() -> None:
    waiting = step(make_waiting(1), NOW)
    assert read_members(decide(waiting, NOW + 59)) == []
    actions = decide(waiting, NOW + 60)
    assert read_members(actions) == [{"1": "spam-0a1b2-1-0"}]
    assert [told.pod for told in actions.annotate] == ["spam-0a1b2-1-0"]


def test_fewer_than_the_lower_bound_never_begin() -> None:
    assert asks_for_nothing(decide(step(make_waiting(0, least=2), NOW + 31), NOW + 1000))


def test_first_member_is_the_one_of_the_lowest_node() -> None:
    snapshot = step(make_waiting(1, 2), LATER)
    status = step(hear(snapshot, make_answer(node=1, step=make_step(3)), make_answer(node=2)), LATER + 5).status
    assert status.progress is not None
    assert status.progress.step == 3


def test_lost_node_is_awaited_with_patience_before_the_others_go_on() -> None:
    snapshot = make_small()
    pods = tuple(pod for pod in snapshot.pods if pod.node_index != 1)
    lost = step(replace(snapshot, pods=pods), LATER + 100)
    assert [pod.key.name for pod in lost.pods] == ["spam-0a1b2-0-0", "spam-0a1b2-1-1", "spam-0a1b2-2-0"]
    assert len(step(lost, LATER + 159).status.attempts) == 1
    assert step(lost, LATER + 160).status.attempts[-1].members == {"0": "spam-0a1b2-0-0"}


def test_node_that_came_back_makes_the_others_stop_once_they_have_made_a_step() -> None:
    grown = run_pods(make_small())
    assert asks_for_nothing(decide(grown, LATER + 50))
    idle = make_answer(LATER + 50, node=2, attempt=0, phase="Idle", data=None)
    waiting = hear(grown, idle)
    assert asks_for_nothing(decide(waiting, LATER + 59))
    assert decide(waiting, LATER + 57).requeue_after == 3.0
    stopping = step(waiting, LATER + 60)
    request = StopRequest(attempt=1, reason="NodesGrown").to_json()
    assert [pod.stop for pod in stopping.pods] == [request, request, None]

    stopped = hear(stopping, make_answer(phase="Stopped"), make_answer(node=1, phase="Stopped"))
    attempts = step(stopped, LATER + 65).status.attempts
    assert [(each.result, each.reason, each.nodes) for each in attempts] == [
        ("Stopped", "NodesGrown", 2),
        ("Running", None, 3),
    ]


def test_attempt_without_a_step_is_not_stopped_for_more_nodes() -> None:
    snapshot = run_pods(step(make_waiting(0, 1), LATER))
    idle = make_answer(LATER, node=2, attempt=0, phase="Idle", data=None)
    snapshot = hear(snapshot, make_answer(phase="Starting", data=None), make_answer(node=1, data=None), idle)
    assert step(snapshot, LATER + 100).status.attempts[0].stop_time is None


def test_lower_bounds_stop_the_attempt_and_give_the_surplus_back() -> None:
    snapshot = step(run_pods(step(make_snapshot(make_spec(most=3, nodes=2)), NOW)), LATER)
    snapshot = step(hear(snapshot, *(make_answer(node=node) for node in range(3))), LATER)
    assert snapshot.status.attempts[0].nodes == 3
    lowered = replace(snapshot, job=make_accepted_job(make_spec(most=2)), generation=2)
    stopping = step(lowered, LATER + 10)
    assert stopping.pods[2].stop == StopRequest(attempt=1, reason="NodesShrunk").to_json()
    stopped = hear(stopping, *(make_answer(node=node, phase="Stopped") for node in range(3)))
    actions = decide(stopped, LATER + 20)
    assert actions.delete_pods == ("spam-0a1b2-2-0",)
    assert read_members(actions)[-1] == {"0": "spam-0a1b2-0-0", "1": "spam-0a1b2-1-0"}


def test_what_was_accepted_stays_whatever_the_number_of_nodes() -> None:
    snapshot = make_small()
    assert snapshot.status.resolved is not None
    assert snapshot.status.resolved.nodes == 2
