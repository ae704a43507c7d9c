"""How often agents are asked: all of them together cost the same, and whoever has something to tell comes first."""

from __future__ import annotations

import pytest

from finetune_contract import names
from finetune_contract.progress import AgentPhase
from finetune_operator.clients.pace import (
    INTERVAL_SECONDS,
    LONGEST_SECONDS,
    REQUESTS_PER_SECOND,
    Group,
    Pace,
    choose_group,
)
from finetune_operator.snapshot import Key, Pod
from tests.control_plane.make import NOW, make_member, make_running_pod


def place(pace: Pace, group: Group, count: int) -> float:
    """Seconds of the last of so many agents."""
    return [pace.place(Key("ml", f"{group}-{number}"), group) for number in range(count)][-1]


def test_few_agents_are_asked_every_interval() -> None:
    pace = Pace()
    assert [place(pace, group, 100) for group in REQUESTS_PER_SECOND] == [INTERVAL_SECONDS] * 3


def test_many_agents_share_what_their_group_is_allowed() -> None:
    pace = Pace()
    assert place(pace, "telling", 3_000) == 3_000 / REQUESTS_PER_SECOND["telling"]
    assert place(pace, "training", 1_000) == 1_000 / REQUESTS_PER_SECOND["training"]
    assert place(pace, "moving", 1) == INTERVAL_SECONDS


@pytest.mark.parametrize("group", ["telling", "training"])
def test_no_agent_is_left_alone_for_long(group: Group) -> None:
    assert place(Pace(), group, 100_000) == LONGEST_SECONDS[group]


def test_agents_that_are_gone_or_changed_their_group_leave_room() -> None:
    pace = Pace()
    place(pace, "telling", 3_000)
    for number in range(2_990):
        key = Key("ml", f"telling-{number}")
        pace.forget(key) if number % 2 else pace.place(key, "training")
    assert pace.find_seconds(Key("ml", "telling-2999")) == INTERVAL_SECONDS


@pytest.mark.parametrize(
    ("pod", "group"),
    [
        (make_member(), "telling"),
        (make_member(1), "training"),
        (make_member(1, role=names.ROLE_PREPARE), "telling"),
        (make_member(1, ready=False), "moving"),
        (make_member(1, deletion_time=NOW), "moving"),
        (make_member(1, stop='{"attempt": 1, "reason": "PodDrained"}'), "moving"),
        (make_member(1, stop='{"attempt": 0, "reason": "PodDrained"}'), "training"),
        (make_member(1, attempt='{"number": 2}'), "moving"),
        (make_member(1, attempt="not json"), "moving"),
        (make_running_pod(1), "moving"),
    ],
)
def test_agent_that_merely_trains_can_wait(pod: Pod, group: Group) -> None:
    assert choose_group(pod, 1, "Training") == group


def test_first_node_that_will_be_quiet_for_a_while_merely_trains() -> None:
    assert choose_group(make_member(), 1, "Training", is_quiet=True) == "training"
    assert choose_group(make_member(ready=False), 1, "Training", is_quiet=True) == "moving"


@pytest.mark.parametrize("phase", ["Starting", "Finalizing", "Failed", "Finished", "Stopped"])
def test_agent_whose_phase_is_about_to_end_is_asked_often(phase: AgentPhase) -> None:
    assert choose_group(make_member(1), 1, phase) == "moving"
