"""Step 6: snapshots of the local workers become checkpoints in the store, off the training path.

    all local ranks are ready -> upload, read back, compare -> node-<i>.json -> manifest.json once all nodes are there
    node 0: -> ledger.json -> retention

Files are read where the workers wrote them (held.py); workers are told when they may write there again.

Every write is preceded by a look at the fence. A store that fails is tried again for as long as it takes: training goes
on meanwhile, and the workers themselves decide what happens once no slot is free.

**After a failure** the news is told at once. Nothing is lost by that: what is complete stays in this pod's memory, the
upload goes on, under the name of the attempt that wrote it, and the next attempt can resume from it before it is in the
store. The fence then asks whether this agent follows the newest attempt, not which attempt wrote the files: a zombie,
which follows an old one, is still kept out, and nobody else writes into that folder. Where a member was replaced its
part may never come, and the checkpoint is given up unless all parts are there already.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from finetune_contract import names
from finetune_contract.attempt import Attempt
from finetune_contract.progress import CheckpointRecord
from finetune_trainer.agent.best_copies import keep_best, mark_verified
from finetune_trainer.agent.held import Release, Snapshot
from finetune_trainer.agent.site import Site
from finetune_trainer.errors import FencedError, FineTuneError, StorageAccessError, StorageError
from finetune_trainer.logs import Event, tell
from finetune_trainer.messages import SnapshotReady
from finetune_trainer.publish.figures import format_bytes
from finetune_trainer.store import manifest as manifests
from finetune_trainer.store.fence import check_fence
from finetune_trainer.store.ledger import Ledger, change_ledger, delete_checkpoint
from finetune_trainer.store.retention import best_of, plan_retention
from finetune_trainer.store.transfer import upload_files

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 30.0
POLL_SECONDS = 0.5
PEER_PATIENCE_SECONDS = 300.0
"""How long the end of an attempt waits for the store, and for other nodes' files of a checkpoint."""


class Checkpoints:
    """The checkpoints that one attempt writes on this node."""

    def __init__(self, site: Site, attempt: Attempt, local_ranks: int, data_fingerprint: str) -> None:
        self._site = site
        self._held = site.held
        self._attempt = attempt
        self._local_ranks = local_ranks
        self._world_size = len(attempt.members) * local_ranks
        self._fingerprint = data_fingerprint
        self._incomplete: dict[int, Snapshot] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._trouble = ""
        self._is_over = False
        self._held.begin(attempt)
        self.broken: asyncio.Future[FineTuneError] = asyncio.get_running_loop().create_future()
        """Resolved with the error that ends this attempt: fenced off, or an error that nobody expected."""

    def release_to(self, release: Release) -> None:
        """The workers listen: from now on they hear which slots are free."""
        self._held.release_to(release)

    def receive(self, message: SnapshotReady) -> None:
        """Take one rank's word; the last local one starts the upload."""
        snapshot = self._incomplete.setdefault(message.step, self._begin(message))
        snapshot.add(message)
        if len(snapshot.files) == self._local_ranks:
            del self._incomplete[message.step]
            self._held.add(snapshot)
            task = self._held.run(self._guard(snapshot))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Wait until every snapshot is a verified checkpoint. Raises what has broken them, StorageError after long."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=PEER_PATIENCE_SECONDS)
        if self._tasks and not self.broken.done():
            raise StorageError(
                self._trouble or "a checkpoint is not complete: another node has not written its files; look at its log"
            )
        if self.broken.done():
            raise self.broken.result()

    def fail(self, error: FineTuneError) -> None:
        """End the attempt with this error; the first one counts."""
        if not self.broken.done():
            self.broken.set_result(error)

    def close(self) -> None:
        """The attempt is over; what is complete is still uploaded."""
        self._is_over = True

    def _begin(self, message: SnapshotReady) -> Snapshot:
        return Snapshot(message.step, self._attempt, self._world_size, Path(message.folder))

    async def _guard(self, snapshot: Snapshot) -> None:
        try:
            await self._save(snapshot)
        except Exception as error:
            logger.exception("checkpoint %s could not be saved", snapshot.name)
            self._held.settle(snapshot)
            self.fail(FineTuneError(f"checkpoint {snapshot.name} could not be saved: {error}; see the agent's log"))

    async def _save(self, snapshot: Snapshot) -> None:
        work_dir = self._site.settings.work_dir
        await asyncio.to_thread(keep_best, snapshot, work_dir)
        async with self._held.uploading:
            await self._persist(snapshot, lambda: self._upload(snapshot))
        complete = await self._complete(snapshot)
        if complete is not None:
            await asyncio.to_thread(mark_verified, snapshot, complete[1], work_dir)
            self._tell_verified(snapshot, complete[0])
        self._held.settle(snapshot)
        if complete is not None and self._leads:
            record = manifests.record_of(*complete, self._uri(snapshot), time.time())
            async with self._held.entering:
                await self._persist(snapshot, lambda: self._enter(record))

    async def _complete(self, snapshot: Snapshot) -> tuple[manifests.Manifest, str] | None:
        """Wait for the manifest, and write it if this agent is the first to see all nodes' files.

        None when the checkpoint was complete and retention has removed it since, or when a member is gone.
        """
        while await self._persist(snapshot, lambda: self._is_kept(snapshot)):
            found = await self._persist(snapshot, lambda: self._write_manifest(snapshot))
            if found is not None:
                return found
            if self._has_lost_members:
                logger.warning("checkpoint %s is given up: a node that wrote a part of it is gone", snapshot.name)
                return None
            await asyncio.sleep(POLL_SECONDS)
        return None

    async def _persist(self, snapshot: Snapshot, work: Callable[[], Result]) -> Result:
        """Do a piece of work in a thread; a failing store is tried again, and the user told."""
        seconds = FIRST_WAIT_SECONDS
        while True:
            try:
                result = await asyncio.to_thread(work)
            except (StorageError, StorageAccessError) as error:
                # Once an attempt has begun a refused key is the store's trouble like any other: no work is thrown away.
                self._site.board.withdraw(self._trouble)
                self._trouble = f"checkpoint of step {snapshot.step} is late: {error}"
                self._site.board.warn(self._trouble)
            except FencedError as error:
                # Between two attempts the fence is raised before this agent has heard of the next one.
                if not self._is_over:
                    self.fail(error)
            else:
                self._site.board.withdraw(self._trouble)
                self._trouble = ""
                return result
            await asyncio.sleep(seconds)
            seconds = min(2 * seconds, LONGEST_WAIT_SECONDS)

    def _upload(self, snapshot: Snapshot) -> None:
        store, folder, node = self._site.store, self._folder(snapshot), self._node
        check_fence(store, self._number)
        target = f"{folder}/{manifests.node_folder(node)}"
        files = upload_files(store, snapshot.folder, snapshot.all_files, target, verify=True)
        check_fence(store, self._number)
        written = manifests.NodeFiles(
            node=node,
            step=snapshot.step,
            attempt=snapshot.attempt.number,
            files=files,
            metrics=snapshot.metrics,
            best=snapshot.best,
            state=snapshot.state,
        )
        store.put(f"{folder}/{manifests.node_file(node)}", written.to_json(indent=2).encode())
        self._site.metrics.checkpoint_bytes.inc(sum(file.size for file in files.values()))

    def _is_kept(self, snapshot: Snapshot) -> bool:
        """Whether this node's list of files, once written, is still there: retention removes it first."""
        return self._site.store.size(f"{self._folder(snapshot)}/{manifests.node_file(self._node)}") is not None

    def _write_manifest(self, snapshot: Snapshot) -> tuple[manifests.Manifest, str] | None:
        store, folder = self._site.store, self._folder(snapshot)
        if (found := manifests.read_manifest(store, folder)) is not None:
            return found
        nodes = manifests.read_nodes(store, folder, snapshot.attempt.node_indexes)
        if nodes is None:
            return None
        manifest = manifests.compose(nodes, self._site.settings.run, self._fingerprint)
        check_fence(store, self._number)
        store.create(f"{folder}/{names.FILE_MANIFEST}", manifest.to_json(indent=2).encode())
        return manifests.read_manifest(store, folder)

    def _enter(self, record: CheckpointRecord) -> None:
        """Ledger and retention (node 0)."""
        store, number = self._site.store, self._number
        ledger = change_ledger(store, number, lambda ledger: ledger.with_record(record))
        resolved, kept = self._site.settings.run.resolved, self._site.settings.run.spec.checkpoints
        surplus = plan_retention(
            ledger.checkpoints, kept.keep_last, kept.keep_best, resolved.metric, resolved.greater_is_better
        )
        if surplus:
            ledger = change_ledger(store, number, lambda ledger: ledger.without(surplus))
            for old in surplus:
                delete_checkpoint(store, number, old)
        show_ledger(self._site, ledger)

    def _tell_verified(self, snapshot: Snapshot, manifest: manifests.Manifest) -> None:
        self._site.metrics.see_verified(time.time())
        if not self._leads:
            return
        logger.info(
            "checkpoint of step %d is verified: %s in %s%s",
            snapshot.step,
            format_bytes(manifest.size_bytes),
            self._uri(snapshot),
            ", the best so far" if manifest.best else "",
            extra=tell(
                Event.CHECKPOINT_VERIFIED,
                step=snapshot.step,
                bytes=manifest.size_bytes,
                uri=self._uri(snapshot),
                best=manifest.best,
                metrics=dict(manifest.metrics),
            ),
        )

    @property
    def _newest(self) -> Attempt:
        """The attempt that this agent follows now."""
        return self._held.attempt or self._attempt

    @property
    def _number(self) -> int:
        return self._newest.number

    @property
    def _has_lost_members(self) -> bool:
        members = self._newest.members
        return any(members.get(node) != address for node, address in self._attempt.members.items())

    @property
    def _leads(self) -> bool:
        return self._node == self._newest.node_indexes[0]

    @property
    def _node(self) -> int:
        return self._site.settings.node

    def _folder(self, snapshot: Snapshot) -> str:
        return manifests.folder_of(snapshot.step, snapshot.attempt.number)

    def _uri(self, snapshot: Snapshot) -> str:
        return f"{self._site.store.uri}/{self._folder(snapshot)}"


def show_ledger(site: Site, ledger: Ledger) -> None:
    """Put the ledger on the board."""
    resolved = site.settings.run.resolved
    best = best_of(ledger.checkpoints, resolved.metric, resolved.greater_is_better)
    site.board.set_ledger(ledger.checkpoints, best.step if best else None)
