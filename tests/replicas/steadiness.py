"""What a job notices of somebody's coming and going: nothing of this may change while it trains."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from finetune_contract import names
from tests.contract.server import Server
from tests.drills.table import Sighting
from tests.ground.audit import Write, find_overlaps
from tests.waiting import wait_for

JOBS = f"/apis/{names.API_VERSION}/{names.PLURAL}"
PODS = "/api/v1/pods"
OLD_SECONDS = 25.0
"""Figures are written every 15 s, and may come 5 s late; a new leader may take 5 s more."""


@dataclass(frozen=True)
class Sight:
    """One job at one moment."""

    phase: str
    attempts: tuple[tuple[int, str, str], ...]
    """Number, result, start."""
    conditions: tuple[tuple[str, str, str, str], ...]
    """Type, status, reason, last change."""
    pods: frozenset[tuple[str, str]]
    """Name and uid."""


def look(server: Server, names_of_jobs: Iterable[str]) -> dict[str, Sight]:
    """All jobs as they are now."""
    wanted = set(names_of_jobs)
    pods: dict[str, set[tuple[str, str]]] = {name: set() for name in wanted}
    for pod in server.request("GET", PODS).body["items"]:
        job = pod["metadata"].get("labels", {}).get(names.LABEL_JOB)
        if job in wanted:
            pods[job].add((pod["metadata"]["name"], pod["metadata"]["uid"]))
    return {
        name: Sight(
            phase=status.get("phase", ""),
            attempts=tuple(_read_attempt(each) for each in status.get("attempts", [])),
            conditions=tuple(_read_condition(each) for each in status.get("conditions", [])),
            pods=frozenset(pods[name]),
        )
        for name, status in read_statuses(server).items()
        if name in wanted
    }


def read_statuses(server: Server) -> dict[str, dict[str, Any]]:
    """The status of every job."""
    items = server.request("GET", JOBS).body["items"]
    return {each["metadata"]["name"]: each.get("status", {}) for each in items}


def read_steps(server: Server) -> dict[str, int]:
    """How far every job is, by its status."""
    return {name: status.get("progress", {}).get("step") or 0 for name, status in read_statuses(server).items()}


def await_training(server: Server, jobs: Iterable[str]) -> None:
    """Wait until all these jobs train."""
    wanted = set(jobs)

    def do_train() -> bool:
        seen = look(server, wanted)
        return seen.keys() == wanted and all(each.phase == "Running" for each in seen.values())

    wait_for(do_train, "all jobs train", seconds=300, interval=2.0)


def assert_nothing_was_noticed(
    server: Server, before: dict[str, Sight], begun: float, list_writes: Callable[[], list[Write]], sighting: Sighting
) -> set[str]:
    """A round of statuses after an operator was struck every job is what it was, and one replica wrote at a time.

    `begun` is the moment of the strike, `list_writes` gives what the replicas wrote; returns who wrote since then.
    """
    ended, steps = time.time(), read_steps(server)

    def have_moved() -> bool:
        now = read_steps(server)
        return all(now[name] > steps[name] for name in before)

    wait_for(have_moved, "every status goes on", seconds=120, interval=2.0)
    wait_for(lambda: time.time() > ended + 20, "a round of statuses after it", seconds=60)
    after = look(server, before)
    assert [name for name in before if after[name] != before[name]] == []
    writes = [each for each in list_writes() if each.resource != "leases"]
    assert find_overlaps(writes) == []
    during = [each for each in writes if each.begun > begun]
    assert {each.resource for each in during} == {"finetunejobs/status"}
    gap, writers = find_longest_gap(during), {each.agent for each in during}
    sighting.recovery_seconds = gap
    sighting.seen = f"{len(during)} statuses and nothing else by {len(writers)} replicas; none older than {gap:.1f} s"
    assert gap < OLD_SECONDS
    return writers


def find_longest_gap(writes: list[Write]) -> float:
    """The longest time between two writes of one job's status."""
    by_job = [[each for each in writes if each.name == name] for name in {each.name for each in writes}]
    return max(later.begun - each.ended for ours in by_job for each, later in itertools.pairwise(ours))


def _read_attempt(attempt: dict[str, Any]) -> tuple[int, str, str]:
    return attempt["number"], attempt["result"], attempt["startTime"]


def _read_condition(condition: dict[str, Any]) -> tuple[str, str, str, str]:
    return condition["type"], condition["status"], condition["reason"], condition["lastTransitionTime"]
