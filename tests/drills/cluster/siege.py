"""One fault after another on one job that goes on: what is done, and what must hold after it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.drills.cluster.make import SAVE_STEPS
from tests.drills.cluster.watched_job import Look, WatchedJob, condition
from tests.drills.table import Drill, Sighting, rehearse


@dataclass(frozen=True)
class Fault:
    """A fault of one attempt, and how the attempt that it ends must be written down."""

    drill: Drill
    strike: Callable[[WatchedJob], None]
    result: str = "Failed"
    reasons: frozenset[str] = frozenset({"CodeCrash"})
    """One of these must be the reason of the attempt that ended."""
    replaced: frozenset[int] = frozenset()
    """Nodes whose pod must be another one afterwards; all others must be the same."""
    lost_steps: int = SAVE_STEPS
    """At most so many steps may have to be done again."""
    says: tuple[str, ...] = ()
    """Words that must stand in the failure of the attempt that ended: its message or its last lines."""


@dataclass(frozen=True)
class Standing:
    """A job before it is struck."""

    look: Look
    step: int
    newest_checkpoint: int


def survive(job: WatchedJob, fault: Fault) -> None:
    """Strike, wait for the next attempt to get past what was reached before, and check all that was written."""
    standing = settle(job)
    with rehearse(fault.drill) as sighting:
        struck_at = time.time()
        fault.strike(job)
        number = standing.look.attempt + 1
        sighting.recovery_seconds = job.await_training(number) - struck_at
        job.await_training(number, beyond=standing.step)
        check(job, fault, standing, sighting)


def settle(job: WatchedJob) -> Standing:
    """Wait until the newest attempt is past everything that was reached before, and has a checkpoint of its own."""
    look = job.look()
    reached = max((entry["lastStep"] for entry in look.status.get("attempts", [])), default=0)
    job.await_training(max(1, look.attempt), beyond=reached)
    newest = job.await_checkpoint(reached)
    look = job.await_status(lambda status: status["attempts"][-1]["lastStep"] > reached, f"says a step past {reached}")
    step = max(rank["step"] for said in job.agents().values() for rank in said["ranks"])
    return Standing(look, step, newest)


def check(job: WatchedJob, fault: Fault, standing: Standing, sighting: Sighting) -> None:
    """Everything that must hold after a fault, whatever it was."""
    before = standing.look
    after = job.await_status(
        lambda status: status["phase"] == "Running" and status["attempts"][-1]["number"] > before.attempt,
        "says that it runs again",
    )
    ended, begun = after.attempt_entry(before.attempt), after.attempt_entry(before.attempt + 1)
    sighting.lost_steps = ended["lostSteps"]
    sighting.seen = f"{ended['result']} ({ended.get('reason')}), on from step {begun['fromStep']}"
    assert after.attempt == before.attempt + 1, after.status["attempts"]
    assert ended["result"] == fault.result, ended
    assert ended.get("reason") in fault.reasons, ended
    assert ended["endTime"], ended
    assert ended["lostSteps"] <= fault.lost_steps, (ended, begun)
    assert begun["fromStep"] > 0, begun
    assert after.status["restarts"] == after.attempt - 1, after.status
    assert condition(after.status, "Running")["status"] == "True", after.status["conditions"]
    for node, uid in before.uids.items():
        assert (after.uids[node] != uid) == (node in fault.replaced), (node, before.uids, after.uids)
    told = " ".join([ended.get("failure", {}).get("message", ""), *ended.get("failure", {}).get("lastLines", [])])
    assert all(word in told for word in fault.says), ended
    check_checkpoints(job, after, standing.newest_checkpoint)


def check_checkpoints(job: WatchedJob, look: Look, newest_before: int) -> None:
    """No verified checkpoint is lost: the newest is never older than before, and what the status names is there."""
    entries = look.status["checkpoints"]
    assert max(entry["step"] for entry in entries) >= newest_before, entries
    missing = {entry["uri"] for entry in entries if not _has_manifest(job, entry["uri"])}
    # Retention may have been there between the status and the bucket: what neither names any more may be gone.
    named = {entry["uri"] for entry in job.look().status["checkpoints"]} & {entry["uri"] for entry in job.ledger()}
    assert not missing & named, f"named in status and ledger, and without a manifest: {missing & named}"


def _has_manifest(job: WatchedJob, uri: str) -> bool:
    return "manifest.json" in job.ground.bucket.keys(uri)
