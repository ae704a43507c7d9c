"""The operator is killed before and after each of its writes: the job ends as it does without."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.contract.server import Server
from tests.drills.api_proxy import RESET, RESET_AFTER, Call, Fault, Rule, nth_write
from tests.drills.control_plane.journey import Ending, find_repeated, go_round
from tests.drills.control_plane.stage import Stage, open_stage
from tests.drills.table import Drill, rehearse

AT_A_TIME = 3
EXPECTED = "the same end, attempts, pods and events as without"
MOMENTS: dict[str, Fault] = {"before": RESET, "after": RESET_AFTER}


@dataclass(frozen=True)
class Undisturbed:
    """The same job, nobody killed."""

    ending: Ending
    writes: tuple[Call, ...]
    seconds: float


@dataclass(frozen=True)
class Crashes:
    """Tries out one crash after the other."""

    server: Server
    agent_port: int
    folder: Path
    undisturbed: Undisturbed

    def crash(self, number: int, moment: str) -> None:
        """Kill the operator at one write of one job."""
        write = self.undisturbed.writes[number - 1]
        drill = Drill(f"operator killed at write {number}", f"SIGKILL {moment} {write.verb} {write.resource}", EXPECTED)
        with (
            rehearse(drill) as sighting,
            open_stage(
                self.server.kubeconfig, self.folder, f"crash-{number}-{moment}-{uuid.uuid4().hex[:4]}", self.agent_port
            ) as stage,
        ):
            stage.proxy.rules.append(Rule(MOMENTS[moment], nth_write(number), then=stage.operator.kill))
            begun = time.monotonic()
            ending = go_round(stage)
            sighting.recovery_seconds = max(0.0, time.monotonic() - begun - self.undisturbed.seconds)
            check(stage, ending, self.undisturbed)
            sighting.seen = f"the same, {stage.operator.starts} lives"


def check(stage: Stage, ending: Ending, undisturbed: Undisturbed) -> None:
    """Compare with the job that nobody disturbed."""
    assert ending == undisturbed.ending
    # An event that the crash swallowed is a loss that is borne; one that is said twice is not true.
    assert find_repeated(stage) == []


@pytest.fixture(scope="module")
def crashes(server: Server, agent_port: int, tmp_path_factory: pytest.TempPathFactory) -> Crashes:
    """Return what a job without crashes did: the number of writes is known only from it."""
    folder = tmp_path_factory.mktemp("crashes")
    with open_stage(server.kubeconfig, folder, f"quiet-{uuid.uuid4().hex[:5]}", agent_port) as stage:
        begun = time.monotonic()
        ending = go_round(stage)
        seconds = time.monotonic() - begun
        undisturbed = Undisturbed(ending, tuple(stage.proxy.writes), seconds)
        return Crashes(server, agent_port, folder, undisturbed)


def run_all(crashes: Crashes, numbers: Iterable[int]) -> None:
    """All moments of these writes, a few at a time; every crash that went wrong is told."""
    cases = list(itertools.product(numbers, MOMENTS))
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        errors = list(pool.map(lambda case: _try(crashes, *case), cases))
    assert [error for error in errors if error is not None] == []


def _try(crashes: Crashes, number: int, moment: str) -> str | None:
    try:
        crashes.crash(number, moment)
    except AssertionError as error:
        return f"killed {moment} write {number}: {error}"
    return None


def test_killed_operator_goes_on_where_it_was_for_a_third_of_its_writes(crashes: Crashes) -> None:
    run_all(crashes, range(1, len(crashes.undisturbed.writes) + 1, 3))


@pytest.mark.drill
def test_killed_operator_goes_on_where_it_was_for_every_write(crashes: Crashes) -> None:
    run_all(crashes, (each for each in range(1, len(crashes.undisturbed.writes) + 1) if each % 3 != 1))
