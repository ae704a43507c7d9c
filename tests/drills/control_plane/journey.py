"""A job's way from apply to its end on a stage, and what is left to see of it when it has ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.drills.control_plane.stage import Stage, is_phase

NODES = 2
SPEC = {"resources": {"nodes": NODES}}


@dataclass(frozen=True)
class Ending:
    """Everything that must be the same whatever the operator went through."""

    phase: str
    restarts: int
    attempts: tuple[tuple[Any, ...], ...]
    """Number, result, reason, first and last step, lost steps, nodes."""
    conditions: tuple[tuple[str, str, str], ...]
    member_sets: tuple[tuple[int, int], ...]
    """Attempt -> how many different member sets were told with its number."""
    pods: tuple[str, ...]
    """Every pod that ever was: node index and incarnation."""
    most_pods: int
    """At a time."""
    left: tuple[str, ...]
    """Phases of the pods that are left."""


def go_straight(stage: Stage, seconds: float = 60.0) -> Ending:
    """One attempt, which finishes."""
    stage.play.apply(SPEC)
    return finish(stage, seconds)


def go_round(stage: Stage, seconds: float = 60.0, midway: Callable[[], None] | None = None) -> Ending:
    """A crashed worker, a suspend during the second attempt, a resume, and a third attempt, which finishes.

    `midway` is called while the second attempt trains.
    """
    play = stage.play
    play.script = {1: "fails", 2: "trains", 3: "finishes"}
    play.apply(SPEC)
    stage.live(lambda _: play.count_members(2) == NODES, "all members train in attempt 2", seconds=seconds)
    if midway is not None:
        midway()
    play.change({"suspend": True})
    stage.live(lambda status: is_true(status, "Suspended"), "it is suspended", seconds=seconds)
    assert play.list_pods() == []
    play.change({"suspend": False})
    return finish(stage, seconds)


def finish(stage: Stage, seconds: float = 60.0) -> Ending:
    """See the job to its end, and its agents too."""
    stage.live(is_phase("Succeeded"), "the job has succeeded", seconds=seconds)
    stage.live(lambda _: set(stage.play.list_phases()) == {"Succeeded"}, "its agents have finished", seconds=seconds)
    return read_ending(stage)


def read_ending(stage: Stage) -> Ending:
    """What is so now."""
    status = stage.play.read_status()
    return Ending(
        phase=status["phase"],
        restarts=status.get("restarts", 0),
        attempts=tuple(_read_attempt(each) for each in status["attempts"]),
        conditions=tuple(sorted((each["type"], each["status"], each["reason"]) for each in status["conditions"])),
        member_sets=tuple(sorted((number, len(sets)) for number, sets in stage.play.told.items())),
        pods=tuple(sorted(name.split("-", 2)[2] for name in stage.play.agents)),
        most_pods=stage.play.most_pods,
        left=tuple(stage.play.list_phases()),
    )


def find_repeated(stage: Stage) -> list[tuple[str, str, int]]:
    """Events that were said again although they happened once; pods are created twice on the way round."""
    return [event for event in stage.play.list_events() if event[2] > 1 + (event[0] == "PodsCreated")]


def is_true(status: dict[str, Any], condition: str) -> bool:
    """Whether a condition holds."""
    return any((each["type"], each["status"]) == (condition, "True") for each in status.get("conditions", []))


def _read_attempt(attempt: dict[str, Any]) -> tuple[Any, ...]:
    fields = ("number", "result", "reason", "fromStep", "lastStep", "lostSteps", "nodes")
    return tuple(attempt.get(name) for name in fields)
