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
from finetune_trainer.agent.child_log import ChildLog
from finetune_trainer.agent.delivery import Delivery
from finetune_trainer.agent.inputs import Inputs, fetch_inputs
from finetune_trainer.agent.log_format import Origin
from finetune_trainer.agent.preparation import await_pointer, prepare
from finetune_trainer.agent.publication import await_outcome, publish
from finetune_trainer.agent.resume import find_usable, is_told_checkpoints, make_offers
from finetune_trainer.agent.site import Site, unless_stopped
from finetune_trainer.agent.stopping import SAVING_SHARE, UPLOADING_SHARE, find_grace, finish_within, stop_workers
from finetune_trainer.agent.story import tell_data, tell_failure, tell_outcome, tell_stragglers
from finetune_trainer.agent.stragglers import Stragglers
from finetune_trainer.agent.tasks import make_tasks
from finetune_trainer.agent.verdict import find_first_failure
from finetune_trainer.agent.watch import Watched, watch_hangs
from finetune_trainer.agent.workers import Workers
from finetune_trainer.errors import FineTuneError, ReportedError, StoppedError, StorageAccessError, StorageError
from finetune_trainer.logs import Event, tell
from finetune_trainer.messages import FetchCheckpoint, Logged, Resumed, SnapshotReady, WorkerMessage
from finetune_trainer.results import PreparedPointer
from finetune_trainer.store.fence import raise_fence
from finetune_trainer.store.ledger import adopt_manifests
from finetune_trainer.store.outcome import read_outcome

logger = logging.getLogger(__name__)

PEER_SECONDS = 2.0
"""How long the other local workers get to say what they saw, once one has failed."""


async def follow_attempt(site: Site, attempt: Attempt, stop: asyncio.Event) -> None:
    """Go through the whole attempt and leave its end on the board. Raises only CancelledError."""
    board, node = site.board, site.settings.node
    try:
        await _run(site, attempt, stop)
    except StoppedError as error:
        logger.info("attempt %d stopped: %s", attempt.number, error, extra=tell(Event.ATTEMPT_STOPPED))
        board.stopped()
    except FineTuneError as error:
        failure = error.to_failure(node)
        tell_failure(f"attempt {attempt.number}", failure)
        board.fail(failure)
    except Exception as error:
        extra = tell(Event.ATTEMPT_FAILED, reason=Reason.CODE_CRASH)
        logger.exception("attempt %d failed: %s: %s", attempt.number, type(error).__name__, error, extra=extra)
        board.fail(describe_crash(error, node))


async def _run(site: Site, attempt: Attempt, stop: asyncio.Event) -> None:
    leads = site.settings.node == attempt.node_indexes[0]
    if site.known.pointer is None:
        await unless_stopped(touch_store(site, attempt), stop)
    if (outcome := await unless_stopped(asyncio.to_thread(read_outcome, site.store), stop)) is not None:
        site.board.finish(outcome)
        return
    if leads:
        await unless_stopped(asyncio.to_thread(raise_fence, site.store, attempt.number), stop)
        if not is_told_checkpoints(site, attempt):
            await unless_stopped(asyncio.to_thread(_complete_ledger, site, attempt), stop)
    pointer = await unless_stopped(_find_data(site, leads=leads), stop)
    site.board.set_data(pointer.summary)
    inputs = await unless_stopped(fetch_inputs(site, attempt, pointer), stop)
    await train(site, attempt, pointer, inputs, stop)
    if leads:
        publishing, left = publish(site, attempt, pointer, inputs), "asked to stop; the next attempt publishes"
        outcome = await finish_within(publishing, stop, find_grace(site) * SAVING_SHARE, left)
        tell_outcome(outcome)
        site.board.finish(outcome)
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


async def _find_data(site: Site, *, leads: bool) -> PreparedPointer:
    """Prepare, or wait until node 0 has; once in a pod's life."""
    if site.known.pointer is None:
        site.known.pointer = await (prepare(site) if leads else await_pointer(site))
        if leads:
            tell_data(site.known.pointer.summary)
    return site.known.pointer


def _complete_ledger(site: Site, attempt: Attempt) -> None:
    """Node 0: enter what a crashed attempt left between manifest and ledger."""
    show_ledger(site, adopt_manifests(site.store, attempt.number, time.time()))


async def train(site: Site, attempt: Attempt, pointer: PreparedPointer, inputs: Inputs, stop: asyncio.Event) -> None:
    """Run the workers to their end and their checkpoints into the store.

    Raises StoppedError when they stopped with a checkpoint, ReportedError when one failed, and what broke the store.
    """
    offers = make_offers(inputs.candidates, find_usable(site, attempt))
    tasks = make_tasks(site, attempt, inputs, offers)
    if tasks[0].rank == 0:
        processes = "1 worker process" if len(tasks) == 1 else f"{len(tasks)} worker processes"
        logger.info("model and data are here; starting %s", processes, extra=tell(Event.WORKERS_STARTING))
    checkpoints = Checkpoints(site, attempt, len(tasks), pointer.summary.fingerprint)
    former_step, stragglers = site.board.snapshot().step.step, Stragglers()
    slow: frozenset[int] = frozenset()

    def receive(message: WorkerMessage) -> None:
        nonlocal slow
        if isinstance(message, Logged):
            message = stragglers.judge(message)
            slow = tell_stragglers(message.progress.stragglers, slow)
        elif isinstance(message, SnapshotReady):
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
        await unless_stopped(workers.start(tasks, lambda rank: _open_log(site, attempt, rank)), stop)
        checkpoints.release_to(workers.send)
        if site.settings.node == attempt.node_indexes[0] and is_told_checkpoints(site, attempt):
            # Beside the workers' start, which does not need it.
            await unless_stopped(asyncio.to_thread(_complete_ledger, site, attempt), stop)
        stopped = await _watch(site, attempt, workers, checkpoints, stop)
        left = "asked to stop; the last checkpoint was not uploaded in time, the one before counts"
        await finish_within(checkpoints.drain(), stop, find_grace(site) * UPLOADING_SHARE, left)
    finally:
        await workers.terminate()
        await delivery.close()
        checkpoints.close()
    if stopped:
        raise StoppedError("asked to stop; the checkpoint is verified")


async def _watch(site: Site, attempt: Attempt, workers: Workers, checkpoints: Checkpoints, stop: asyncio.Event) -> bool:
    """Wait for the workers' end, and say whether they stopped. Raises ReportedError, or what broke the checkpoints."""
    alone = len(attempt.members) == 1
    ending = asyncio.ensure_future(workers.wait(PEER_SECONDS))
    hanging = asyncio.ensure_future(watch_hangs(workers, _find_watched(site, attempt, alone=alone)))
    patience = asyncio.ensure_future(stop_workers(site, workers, stop, alone=alone))
    try:
        watched: list[asyncio.Future[Any]] = [ending, hanging, patience, checkpoints.broken]
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        if checkpoints.broken.done():
            raise checkpoints.broken.result()
        if not ending.done():
            await workers.kill()
            if hanging.done():
                raise ReportedError(hanging.result())
            patience.result()
            return True
        ends = await ending
    finally:
        for waiting in (ending, hanging, patience):
            waiting.cancel()
        await asyncio.gather(ending, hanging, patience, return_exceptions=True)
    failure = find_first_failure(ends, site.settings.node)
    if failure is not None and stop.is_set() and failure.failure_class == FailureClass.PEER_LOST:
        site.board.warn("another node did not wait for this one to stop; the last complete checkpoint counts")
        return True
    if failure is not None:
        raise ReportedError(failure)
    return any(end.exit_code == WorkerExit.STOPPED for end in ends)


def _find_watched(site: Site, attempt: Attempt, *, alone: bool) -> Watched:
    return Watched(
        node=site.settings.node,
        attempt_dir=site.settings.attempt_dir(attempt.number),
        timeouts=site.settings.run.spec.failure_policy.timeouts,
        alone=alone,
    )


def _open_log(site: Site, attempt: Attempt, rank: int) -> ChildLog:
    origin = Origin("worker", attempt.number, rank)
    return ChildLog(origin, site.settings.attempt_dir(attempt.number) / f"rank-{rank}.log")


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
