"""What a job notices of somebody's coming and going: nothing of this may change while it trains."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from finetune_contract import names
from tests.contract.server import Server

JOBS = f"/apis/{names.API_VERSION}/{names.PLURAL}"
PODS = "/api/v1/pods"


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


def _read_attempt(attempt: dict[str, Any]) -> tuple[int, str, str]:
    return attempt["number"], attempt["result"], attempt["startTime"]


def _read_condition(condition: dict[str, Any]) -> tuple[str, str, str, str]:
    return condition["type"], condition["status"], condition["reason"], condition["lastTransitionTime"]
