"""One attempt on this node, from the annotation to its end. Reads as docs/architecture.md."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from typing import Any

from finetune_contract.attempt import Attempt
from finetune_contract.exits import FailureClass, WorkerExit
from finetune_contract.names import Reason
from finetune_contract.progress import Failure
from finetune_trainer.agent.checkpoints import Checkpoints, show_ledger
from finetune_trainer.agent.delivery import Delivery
from finetune_trainer.agent.held import find_held
from finetune_trainer.agent.inputs import Inputs, fetch_inputs
from finetune_trainer.agent.preparation import await_pointer, prepare
from finetune_trainer.agent.publication import await_outcome, publish
from finetune_trainer.agent.rank_log import RankLog
from finetune_trainer.agent.resume import make_offers
from finetune_trainer.agent.site import Site, unless_stopped
from finetune_trainer.agent.tasks import make_tasks
from finetune_trainer.agent.verdict import find_first_failure
from finetune_trainer.agent.workers import Workers
from finetune_trainer.errors import FineTuneError, ReportedError, StoppedError, StorageAccessError, StorageError
from finetune_trainer.messages import FetchCheckpoint, Resumed, SnapshotReady, WorkerMessage
from finetune_trainer.results import PreparedPointer
from finetune_trainer.store.fence import raise_fence
from finetune_trainer.store.ledger import adopt_manifests
from finetune_trainer.store.outcome import read_outcome

logger = logging.getLogger(__name__)

PEER_SECONDS = 10.0
"""How long the other local workers get to say what they saw, once one has failed."""


async def follow_attempt(site: Site, attempt: Attempt, stop: asyncio.Event) -> None:
    """Go through the whole attempt and leave its end on the board. Raises only CancelledError."""
    board, node = site.board, site.settings.node
    try:
        await _run(site, attempt, stop)
    except StoppedError as error:
        logger.info("attempt %d stopped: %s", attempt.number, error)
        board.stopped()
    except FineTuneError as error:
        logger.error("attempt %d failed: %s", attempt.number, error)
        board.fail(error.to_failure(node))
    except Exception as error:
        logger.exception("attempt %d failed", attempt.number)
        board.fail(describe_crash(error, node))


async def _run(site: Site, attempt: Attempt, stop: asyncio.Event) -> None:
    leads = site.settings.node == attempt.node_indexes[0]
    await unless_stopped(touch_store(site, attempt), stop)
    if (outcome := await asyncio.to_thread(read_outcome, site.store)) is not None:
        site.board.finish(outcome)
        return
    if leads:
        await asyncio.to_thread(_take_over, site, attempt)
    pointer = await unless_stopped(prepare(site) if leads else await_pointer(site), stop)
    site.board.set_data(pointer.summary)
    inputs = await unless_stopped(fetch_inputs(site, attempt, pointer), stop)
    await train(site, attempt, pointer, inputs, stop)
    if leads:
        site.board.finish(await publish(site, attempt, pointer, inputs))
    else:
        site.board.finish(await unless_stopped(await_outcome(site), stop))


async def touch_store(site: Site, attempt: Attempt | None) -> None:
    """First contact. Raises StorageAccessError, which ends the job; in a later attempt StorageError."""
    try:
        await asyncio.to_thread(site.store.probe)
    except StorageAccessError as error:
        if attempt is not None and attempt.number > 1:
            raise StorageError(str(error)) from error
        raise


def _take_over(site: Site, attempt: Attempt) -> None:
    """Node 0: hold the job's folder, and enter what a crashed attempt left between manifest and ledger."""
    raise_fence(site.store, attempt.number)
    show_ledger(site, adopt_manifests(site.store, attempt.number, time.time()))


async def train(site: Site, attempt: Attempt, pointer: PreparedPointer, inputs: Inputs, stop: asyncio.Event) -> None:
    """Run the workers to their end and their checkpoints into the store.

    Raises StoppedError when they stopped with a checkpoint, ReportedError when one failed, and what broke the store.
    """
    offers = make_offers(inputs.candidates, find_held(site.held))
    tasks = make_tasks(site, attempt, inputs, offers)
    checkpoints = Checkpoints(site, attempt, len(tasks), pointer.summary.fingerprint)
    former_step = site.board.snapshot().step.step

    def receive(message: WorkerMessage) -> None:
        if isinstance(message, SnapshotReady):
            checkpoints.receive(message)
        elif isinstance(message, FetchCheckpoint):
            delivery.receive(message)
        elif isinstance(message, Resumed):
            site.metrics.lose_steps(max(0, former_step - message.step))
        site.metrics.receive(message)
        site.board.receive(message)

    workers = Workers(site.launcher, receive)
    delivery = Delivery(site, attempt, inputs.candidates, workers.send, checkpoints.fail)
    if offers and offers[0].path is None:
        delivery.begin(offers[0].name)
    try:
        await workers.start(tasks, lambda rank: _open_log(site, attempt, rank))
        checkpoints.release_to(workers.send)
        stopped = await _watch(site, workers, checkpoints, stop)
        await checkpoints.drain()
    finally:
        await workers.terminate()
        await delivery.close()
        checkpoints.close()
    if stopped:
        raise StoppedError("asked to stop; the checkpoint is verified")


async def _watch(site: Site, workers: Workers, checkpoints: Checkpoints, stop: asyncio.Event) -> bool:
    """Wait for the workers' end, and say whether they stopped. Raises ReportedError, or what broke the checkpoints."""
    ending = asyncio.ensure_future(workers.wait(PEER_SECONDS))
    patience = asyncio.ensure_future(_stop_when_asked(site, workers, stop))
    try:
        watched: list[asyncio.Future[Any]] = [ending, patience, checkpoints.broken]
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        if checkpoints.broken.done():
            raise checkpoints.broken.result()
        if patience.done() and not ending.done():
            await workers.terminate()
            return True
        ends = await ending
    finally:
        ending.cancel()
        patience.cancel()
    failure = find_first_failure(ends, site.settings.node)
    if failure is not None:
        raise ReportedError(failure)
    return any(end.exit_code == WorkerExit.STOPPED for end in ends)


async def _stop_when_asked(site: Site, workers: Workers, stop: asyncio.Event) -> None:
    """Pass the wish on, and return when the workers have had their time."""
    await stop.wait()
    site.board.enter("Stopping")
    workers.stop()
    await asyncio.sleep(find_stop_seconds(site))
    site.board.warn("the workers did not agree on a step to stop at; the last complete checkpoint counts")


def find_stop_seconds(site: Site) -> float:
    """How long workers may take to save and end: the shorter grace, less what uploading and telling need."""
    spec = site.settings.run.spec
    grace = min(spec.lifecycle.stop_grace_seconds, spec.pod.termination_grace_period_seconds)
    return max(5.0, grace * 0.6)


def _open_log(site: Site, attempt: Attempt, rank: int) -> RankLog:
    prefix = f"[{site.settings.run.job.name} attempt={attempt.number} rank={rank}]"
    return RankLog(site.settings.attempt_dir(attempt.number) / f"rank-{rank}.log", prefix)


def describe_crash(error: Exception, node: int) -> Failure:
    """An exception that nobody expected: a fault of ours."""
    return Failure(
        failure_class=FailureClass.CODE,
        reason=Reason.CODE_CRASH,
        message=f"the agent of node {node} failed: {type(error).__name__}: {error}; please report this"[:4096],
        node=node,
        last_lines=tuple(line[:4000] for line in traceback.format_exc().splitlines()[-20:]),
        at=time.time(),
    )
