"""Looks once a second at what the workers of this node are doing, and says when one has hung.

Reads marks and asks for stacks; what they mean is hang.py's. Ends no worker.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from finetune_contract.progress import Failure
from finetune_contract.spec.lifecycle import TimeoutsSpec
from finetune_trainer.agent.hang import Suspect, choose_cause, describe_hang, find_suspects
from finetune_trainer.agent.stacks import look_at
from finetune_trainer.agent.workers import Workers
from finetune_trainer.marks import Mark

LOOK_SECONDS = 1.0
PAUSE_SECONDS = 5.0
"""A look that comes so late means that this machine stood still; the workers could do nothing either."""
CAUSE_SECONDS = 5.0
"""How long a rank that only waits is left alone, so that the node of the cause is the first to end it."""


@dataclass(frozen=True)
class Watched:
    """One node's part in an attempt."""

    node: int
    attempt_dir: Path
    timeouts: TimeoutsSpec
    alone: bool
    """No other node takes part."""


async def watch_hangs(workers: Workers, watched: Watched) -> Failure:
    """Return when a worker of this node has hung."""
    began = since = looked_at = time.monotonic()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        now = time.monotonic()
        if now - looked_at > PAUSE_SECONDS:
            since = now
        looked_at = now
        marks = workers.read_marks(since=began)
        suspects = find_suspects(marks, watched.timeouts, now, since)
        if suspects and (failure := await _judge(workers, watched, suspects)) is not None:
            return failure


async def _judge(workers: Workers, watched: Watched, suspects: tuple[Suspect, ...]) -> Failure | None:
    """The failure; None where the worker has moved on meanwhile."""
    pids = workers.pids
    sights = await look_at({suspect.rank: pids[suspect.rank] for suspect in suspects}, watched.attempt_dir)
    cause, waits = choose_cause(suspects, sights)
    if waits and not watched.alone:
        await asyncio.sleep(CAUSE_SECONDS)
    if not _is_still_there(workers, cause.rank, cause.mark):
        return None
    sight = sights[cause.rank]
    return describe_hang(cause, sight, node=watched.node, waits=waits, alone=watched.alone, at=time.time())


def _is_still_there(workers: Workers, rank: int, mark: Mark) -> bool:
    return workers.read_marks(since=mark.at).get(rank) == mark
