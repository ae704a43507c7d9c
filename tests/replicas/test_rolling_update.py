"""The operator is replaced, one replica after the other, while 200 jobs train: none of them notices."""

from __future__ import annotations

import itertools
import time
from contextlib import ExitStack

import pytest

from finetune_contract import names
from tests.control_plane.replicas import ask_probe
from tests.drills.table import Drill, rehearse
from tests.ground.audit import Write, find_overlaps, read_writes
from tests.replicas.steadiness import look, read_steps
from tests.scale.world import make_job, run_world
from tests.waiting import wait_for

JOBS = 200
OLD_SECONDS = 25.0
"""Figures are written every 15 s, and may come 5 s late; a new leader may take 5 s more."""
ROLLING = Drill(
    f"rolling update during {JOBS} running jobs",
    "a new replica stands ready before an old one gets SIGTERM, twice",
    "same pods, attempts and conditions; statuses go on; never two writers",
)


@pytest.mark.drill
def test_no_job_notices_that_the_operator_is_replaced() -> None:
    with rehearse(ROLLING) as sighting, run_world() as world, ExitStack() as replicas:
        olds = [replicas.enter_context(world.run_operator(name)) for name in ("old-1", "old-2")]
        jobs = [f"steady-{number}" for number in range(JOBS)]
        for name in jobs:
            answer = world.server.create(make_job(name, "move", nodes=2, gpus=0))
            assert answer.accepted, answer.message

        def is_running() -> bool:
            seen = look(world.server, jobs)
            return len(seen) == JOBS and all(each.phase == "Running" for each in seen.values())

        wait_for(is_running, "all jobs train", seconds=300, interval=2.0)
        before, steps, begun = look(world.server, jobs), read_steps(world.server), time.time()
        for number, old in enumerate(olds, 1):
            new = replicas.enter_context(world.run_operator(f"new-{number}"))
            wait_for(lambda new=new: ask_probe(new, "readyz")[0] == 200, "the new replica is ready", seconds=120)  # type: ignore[misc]
            assert old.stop() == 0
        ended = time.time()

        def have_moved() -> bool:
            now = read_steps(world.server)
            return all(now[name] > steps[name] for name in jobs)

        wait_for(have_moved, "every status goes on", seconds=120, interval=2.0)
        wait_for(lambda: time.time() > ended + 20, "a round of statuses after it", seconds=60)
        after = look(world.server, jobs)
        changed = [name for name in jobs if after[name] != before[name]]
        assert changed == []
        writes = [each for each in read_writes(world.folder, agent=names.MANAGED_BY) if each.resource != "leases"]
        assert find_overlaps(writes) == []
        during = [each for each in writes if each.begun > begun]
        assert {each.resource for each in during} == {"finetunejobs/status"}
        gap = find_longest_gap(during)
        writers = {each.agent for each in during}
        sighting.recovery_seconds = gap
        sighting.seen = (
            f"{len(during)} statuses and nothing else by {len(writers)} replicas; none older than {gap:.1f} s"
        )
        assert gap < OLD_SECONDS


def find_longest_gap(writes: list[Write]) -> float:
    """The longest time between two writes of one job's status."""
    by_job = [[each for each in writes if each.name == name] for name in {each.name for each in writes}]
    return max(later.begun - each.ended for ours in by_job for each, later in itertools.pairwise(ours))
