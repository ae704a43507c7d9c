"""A bucket that fails stops no training; a broken checkpoint is passed over and named, and the one before it taken."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.drills.cluster.drill_ground import DrillGround
from tests.drills.cluster.make import make_drill_job
from tests.drills.cluster.siege import check_checkpoints, settle
from tests.drills.cluster.watched_job import WatchedJob
from tests.drills.s3_proxy import DOWN, FORBIDDEN, FULL, SLOW, Fault
from tests.drills.table import Drill, rehearse
from tests.waiting import wait_for

OUTAGE_STEPS = 40
"""Training must do so many steps while the bucket fails: two checkpoints fall into it."""
GOES_ON = "training goes on in the same attempt; checkpoints reach the bucket afterwards"


@pytest.fixture(scope="module")
def job(drill_ground: DrillGround) -> Iterator[WatchedJob]:
    """A long job whose bucket fails; the ground's end removes it."""
    job = WatchedJob(drill_ground, "bucket")
    drill_ground.kubectl.apply(make_drill_job(job.name))
    job.await_training()
    yield job
    drill_ground.clear()


ALWAYS = [(Drill("S3 down", "connections to S3 are cut for 20 s", GOES_ON), DOWN, 20.0)]
MORE = [
    (Drill("S3 slow", "every request to S3 takes 2 s longer", GOES_ON), SLOW, 20.0),
    (Drill("S3 refuses", "S3 answers 403 for 20 s", GOES_ON), FORBIDDEN, 20.0),
    (Drill("S3 full", "S3 takes no more objects for 20 s", GOES_ON), FULL, 20.0),
]


def _outlive(job: WatchedJob, drill: Drill, fault: Fault, seconds: float) -> None:
    standing = settle(job)
    with rehearse(drill) as sighting:
        began = time.monotonic()
        with job.ground.proxy.failing(fault):
            job.await_training(standing.look.attempt, beyond=standing.step + OUTAGE_STEPS)
            wait_for(lambda: time.monotonic() - began > seconds, "the outage has lasted", seconds=seconds + 5)
            assert job.ground.proxy.failed > 0
            warnings = [warning for said in job.agents().values() for warning in said.get("warnings", [])]
        ended = time.monotonic()
        job.await_checkpoint(standing.newest_checkpoint + OUTAGE_STEPS)
        sighting.recovery_seconds = time.monotonic() - ended
        after = job.look()
        sighting.lost_steps = 0
        sighting.seen = f"same attempt; said: {warnings[-1] if warnings else 'nothing'}"[:200]
        assert after.attempt == standing.look.attempt, after.status["attempts"]
        assert after.uids == standing.look.uids
        check_checkpoints(job, after, standing.newest_checkpoint)


@pytest.mark.parametrize(("drill", "fault", "seconds"), ALWAYS, ids=lambda value: getattr(value, "name", None))
def test_training_goes_on_while_the_bucket_fails(job: WatchedJob, drill: Drill, fault: Fault, seconds: float) -> None:
    _outlive(job, drill, fault, seconds)


@pytest.mark.drill
@pytest.mark.parametrize(("drill", "fault", "seconds"), MORE, ids=lambda value: getattr(value, "name", None))
def test_training_goes_on_however_the_bucket_fails(job: WatchedJob, drill: Drill, fault: Fault, seconds: float) -> None:
    _outlive(job, drill, fault, seconds)


BOTH = Drill("S3 down, worker killed", "kill -9 of a worker while S3 is down", "resumed when S3 is back, from memory")


@pytest.mark.drill
def test_a_worker_that_dies_while_the_bucket_is_down_costs_one_snapshot_interval(job: WatchedJob) -> None:
    standing = settle(job)
    with rehearse(BOTH) as sighting:
        with job.ground.proxy.failing(DOWN):
            job.await_training(standing.look.attempt, beyond=standing.step + OUTAGE_STEPS)
            job.worker(0).strike(signal.SIGKILL)
            job.await_status(lambda status: status["attempts"][-1].get("endTime"), "says that the attempt ended")
        back = time.time()
        sighting.recovery_seconds = job.await_training(standing.look.attempt + 1, standing.step + OUTAGE_STEPS) - back
        after = job.look()
        ended = after.attempt_entry(standing.look.attempt)
        sighting.lost_steps, sighting.seen = ended["lostSteps"], json.dumps(ended.get("reason"))
        assert ended["lostSteps"] <= OUTAGE_STEPS // 2, after.status["attempts"]
        check_checkpoints(job, after, standing.newest_checkpoint)


def _truncate(job: WatchedJob, folder: str) -> None:
    """Half of the largest file that is no manifest."""
    bucket = job.ground.bucket
    files = [key for key in bucket.keys(folder) if not key.endswith(".json")]
    contents = {key: bucket.read(f"{folder}/{key}") for key in files}
    key = max(contents, key=lambda key: len(contents[key]))
    bucket.write(f"{folder}/{key}", contents[key][: len(contents[key]) // 2])


def _flip(job: WatchedJob, folder: str) -> None:
    """One bit in the middle of every file that is no manifest: same size, another digest."""
    bucket = job.ground.bucket
    for key in bucket.keys(folder):
        if not key.endswith(".json"):
            content = bytearray(bucket.read(f"{folder}/{key}"))
            content[len(content) // 2] ^= 1
            bucket.write(f"{folder}/{key}", bytes(content))


def _forge_manifest(job: WatchedJob, folder: str) -> None:
    """A manifest that is well-formed, and not the one that the status trusts."""
    uri = f"{folder}/manifest.json"
    job.ground.bucket.write(uri, job.ground.bucket.read(uri) + b"\n")


def _remove_manifest(job: WatchedJob, folder: str) -> None:
    job.ground.bucket.delete(f"{folder}/manifest.json")


PASSED_OVER = "the checkpoint is passed over and named, the one before is taken"
DAMAGES: list[tuple[Drill, Callable[[WatchedJob, str], None]]] = [
    (
        Drill("checkpoint truncated", "half of a file of the newest checkpoint; all pods deleted", PASSED_OVER),
        _truncate,
    ),
    (Drill("checkpoint corrupted", "one bit in every file of the newest; all pods deleted", PASSED_OVER), _flip),
    (Drill("manifest missing", "the newest manifest is deleted; all pods deleted", PASSED_OVER), _remove_manifest),
    (Drill("manifest forged", "the newest manifest is replaced; all pods deleted", PASSED_OVER), _forge_manifest),
]


@pytest.mark.drill
@pytest.mark.parametrize(("drill", "damage"), DAMAGES, ids=lambda value: getattr(value, "name", None))
def test_a_broken_checkpoint_is_passed_over_and_named(
    job: WatchedJob, drill: Drill, damage: Callable[[WatchedJob, str], None]
) -> None:
    settle(job)
    with rehearse(drill) as sighting:
        job.apply_patch({"suspend": True})
        suspended = job.await_status(lambda status: status["phase"] == "Suspended", "is suspended")
        newest, *_, older = sorted(suspended.status["checkpoints"], key=lambda entry: -entry["step"])[:2]
        damage(job, newest["uri"])
        job.apply_patch({"suspend": False})
        began = time.time()
        number = suspended.attempt + 1
        sighting.recovery_seconds = job.await_training(number) - began
        after = job.look()
        begun = after.attempt_entry(number)
        warnings = [warning for said in job.agents().values() for warning in said.get("warnings", [])]
        ended = after.attempt_entry(suspended.attempt)
        sighting.lost_steps, sighting.seen = ended["lostSteps"], f"from step {begun['fromStep']}: {warnings}"[:200]
        assert begun["fromStep"] == older["step"], after.status
        assert ended["lostSteps"] == newest["step"] - older["step"]
        folder = newest["uri"].rsplit("/", 1)[1]
        assert any(folder in warning for warning in warnings), warnings


CONFLICT = Drill("ledger conflict", "another writer changes ledger.json all the time", "no checkpoint is lost")
CONFLICTS = 50


@pytest.mark.drill
def test_a_ledger_that_others_touch_loses_no_checkpoint(job: WatchedJob) -> None:
    standing = settle(job)
    uri = f"{job.folder()}/ledger.json"
    with rehearse(CONFLICT) as sighting:
        for _ in range(CONFLICTS):
            job.ground.bucket.write(uri, job.ground.bucket.read(uri))
        newest = job.await_checkpoint(standing.newest_checkpoint + OUTAGE_STEPS)
        after = job.look()
        sighting.lost_steps, sighting.seen = 0, f"same attempt, checkpoint of step {newest}"
        assert after.attempt == standing.look.attempt
        check_checkpoints(job, after, standing.newest_checkpoint)
