"""The operator is replaced, one replica after the other, while 200 jobs train: none of them notices."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from finetune_contract import names
from tests.control_plane.replicas import ask_probe
from tests.drills.table import Drill, rehearse
from tests.ground.audit import read_writes
from tests.replicas.steadiness import assert_nothing_was_noticed, await_training, look
from tests.scale.world import make_job, run_world
from tests.waiting import wait_for

JOBS = 200
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
        await_training(world.server, jobs)
        before, begun = look(world.server, jobs), time.time()
        for number, old in enumerate(olds, 1):
            new = replicas.enter_context(world.run_operator(f"new-{number}"))
            wait_for(lambda new=new: ask_probe(new, "readyz")[0] == 200, "the new replica is ready", seconds=120)  # type: ignore[misc]
            assert old.stop() == 0
        assert_nothing_was_noticed(
            world.server, before, begun, lambda: read_writes(world.folder, agent=names.MANAGED_BY), sighting
        )
