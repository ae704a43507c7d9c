"""Every kind of call meets every fault once: the job ends as it does without."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.drills.api_proxy import (
    BROKEN,
    BUSY,
    CONFLICT,
    GONE,
    GONE_WITHIN,
    RESET,
    RESET_AFTER,
    SILENT,
    SILENT_AFTER,
    TOO_MANY,
    Fault,
    Rule,
    Verb,
    call_of,
)
from tests.drills.control_plane.trials import Trials, try_all


class Case(NamedTuple):
    """One call and one fault."""

    verb: Verb
    resource: str
    fault: Fault

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}: {self.fault.name}"


CALLS: tuple[tuple[Verb, str], ...] = (
    ("list", "finetunejobs"),
    ("list", "pods"),
    ("list", "configmaps"),
    ("watch", "finetunejobs"),
    ("watch", "pods"),
    ("watch", "configmaps"),
    ("get", "leases"),
    ("create", "leases"),
    ("update", "leases"),
    ("create", "configmaps"),
    ("create", "pods"),
    ("create", "events"),
    ("patch", "events"),
    ("patch", "finetunejobs/status"),
    ("patch", "pods"),
    ("delete", "pods"),
)
FAULTS = (CONFLICT, GONE, TOO_MANY, BROKEN, BUSY, RESET, RESET_AFTER, SILENT, SILENT_AFTER)
CASES = tuple(Case(verb, resource, fault) for verb, resource in CALLS for fault in FAULTS) + tuple(
    Case("watch", resource, GONE_WITHIN) for resource in ("finetunejobs", "pods", "configmaps")
)
PART = tuple(case for number, case in enumerate(CASES) if number % (len(FAULTS) + 1) == 0)
"""Each fault, each call once: for every day."""


def meet(trials: Trials, case: Case) -> None:
    rule = Rule(case.fault, call_of(case.verb, case.resource))
    trials.disturb(f"API server: {case.verb} {case.resource}", case.fault.name, lambda _: rule)


def test_every_call_bears_a_fault(trials: Trials) -> None:
    try_all(PART, lambda case: meet(trials, case))


@pytest.mark.drill
def test_every_call_bears_every_fault(trials: Trials) -> None:
    try_all((case for case in CASES if case not in PART), lambda case: meet(trials, case))
