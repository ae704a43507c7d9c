"""One journey after the other, each with a fault of its own, compared with the one that nobody disturbed."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from tests.contract.server import Server
from tests.drills.api_proxy import Call, Rule
from tests.drills.control_plane.journey import Ending, find_repeated, go_round
from tests.drills.control_plane.stage import Stage, open_stage
from tests.drills.table import Drill, rehearse

Case = TypeVar("Case")
AT_A_TIME: Final = 3
SECONDS: Final = 120.0
EXPECTED: Final = "the same end, attempts and pods as without; no event twice"


@dataclass(frozen=True)
class Undisturbed:
    """The journey that nobody disturbed."""

    ending: Ending
    writes: tuple[Call, ...]
    seconds: float


@dataclass(frozen=True)
class Trials:
    """Where journeys are made."""

    server: Server
    agent_port: int
    folder: Path
    undisturbed: Undisturbed

    def disturb(self, name: str, fault: str, rule: Callable[[Stage], Rule]) -> None:
        """Make the journey on a stage with this rule, and enter it in the table."""
        with (
            rehearse(Drill(name, fault, EXPECTED)) as sighting,
            open_stage(self.server.kubeconfig, self.folder, make_namespace("trial"), self.agent_port) as stage,
        ):
            spoilt = rule(stage)
            stage.proxy.rules.append(spoilt)
            begun = time.monotonic()
            ending = go_round(stage, SECONDS)
            sighting.recovery_seconds = max(0.0, time.monotonic() - begun - self.undisturbed.seconds)
            assert ending == self.undisturbed.ending, f"{ending} is not {self.undisturbed.ending}"
            # An event that a fault swallowed is a loss that is borne; one that is said twice is not true.
            assert find_repeated(stage) == [], f"said again: {find_repeated(stage)}"
            # A lease is renewed only now and then.
            stage.live(lambda _: spoilt.met > 0, "the fault has met a call", seconds=20)
            sighting.seen = f"the same, operator started {stage.operator.starts} x"


def go_undisturbed(server: Server, agent_port: int, folder: Path) -> Trials:
    """Make the journey without any fault."""
    with open_stage(server.kubeconfig, folder, make_namespace("quiet"), agent_port) as stage:
        begun = time.monotonic()
        ending = go_round(stage)
        seconds = time.monotonic() - begun
        assert find_repeated(stage) == []
        assert stage.operator.starts == 1
        return Trials(server, agent_port, folder, Undisturbed(ending, tuple(stage.proxy.writes), seconds))


def try_all(cases: Iterable[Case], try_one: Callable[[Case], None]) -> None:
    """Several cases at a time, all of them; what went wrong is told at the end."""

    def attempt(case: Case) -> str | None:
        try:
            try_one(case)
        except AssertionError as error:
            return f"{case}: {error}"
        return None

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        errors = list(pool.map(attempt, cases))
    wrong = "\n".join(error for error in errors if error is not None)
    assert not wrong, wrong


def make_namespace(what: str) -> str:
    """A name that no other drill has."""
    return f"{what}-{uuid.uuid4().hex[:8]}"
