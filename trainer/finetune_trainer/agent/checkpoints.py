"""Step 6: snapshots of the local workers become checkpoints in the store, off the training path.

    all local ranks are ready -> upload, read back, compare -> node-<i>.json -> manifest.json once all nodes are there
    node 0: -> ledger.json -> retention

Every write is preceded by a look at the fence. A bucket that fails is tried again; training goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from finetune_contract import names
from finetune_contract.attempt import Attempt
from finetune_contract.progress import CheckpointRecord
from finetune_trainer.agent.site import Site
from finetune_trainer.errors import FineTuneError, StorageError
from finetune_trainer.messages import SnapshotReady
from finetune_trainer.store import manifest as manifests
from finetune_trainer.store.fence import check_fence
from finetune_trainer.store.ledger import Ledger, change_ledger, delete_checkpoint
from finetune_trainer.store.retention import best_of, plan_retention
from finetune_trainer.store.transfer import upload_files

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

TRIES = 8
LONGEST_WAIT_SECONDS = 30.0
POLL_SECONDS = 0.5
PEER_PATIENCE_SECONDS = 300.0
"""How long the end of an attempt waits for other nodes' files of a checkpoint."""
SETTLE_SECONDS = 20.0
"""How long the news of a failure waits for snapshots that are complete."""
PEER_SETTLE_SECONDS = 5.0
"""The same where other nodes may be gone, whose files would be awaited in vain."""


@dataclass
class Snapshot:
    """One step's snapshot on this node: complete when every local rank has said so."""

    step: int
    folder: Path
    files: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Local rank's global rank -> its files."""
    metrics: dict[str, float] = field(default_factory=dict)
    best: bool = False
    state: dict[str, float | int | str] = field(default_factory=dict)

    def add(self, message: SnapshotReady) -> None:
        """Take one rank's word."""
        self.files[message.rank] = message.files
        if message.state or message.metrics or message.best:
            self.metrics, self.best, self.state = message.metrics, message.best, message.state


class Checkpoints:
    """The checkpoints of one attempt on this node."""

    def __init__(self, site: Site, attempt: Attempt, local_ranks: int, data_fingerprint: str) -> None:
        self._site = site
        self._attempt = attempt
        self._local_ranks = local_ranks
        self._fingerprint = data_fingerprint
        self._snapshots: dict[int, Snapshot] = {}
        self._saved: list[Snapshot] = []
        self._saving = asyncio.Lock()
        self._keeping = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.broken: asyncio.Future[FineTuneError] = asyncio.get_running_loop().create_future()
        """Resolved with the error that ends this attempt: fenced off, or a store that stays away."""

    def receive(self, message: SnapshotReady) -> None:
        """Take one rank's word; the last local one starts the upload."""
        snapshot = self._snapshots.setdefault(message.step, Snapshot(message.step, Path(message.folder)))
        snapshot.add(message)
        if len(snapshot.files) == self._local_ranks:
            del self._snapshots[message.step]
            task = asyncio.ensure_future(self._guard(self._save(snapshot)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Wait until every snapshot is a verified checkpoint. Raises what has broken them, StorageError after long."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=PEER_PATIENCE_SECONDS)
        if self._tasks and not self.broken.done():
            raise StorageError("a checkpoint is not complete: another node has not written its files; look at its log")
        if self.broken.done():
            raise self.broken.result()

    async def settle(self) -> None:
        """After a failure: what is complete on this disk shall not be lost, but peers are not waited for long."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=SETTLE_SECONDS if self._is_alone else PEER_SETTLE_SECONDS)

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except FineTuneError as error:
            self.fail(error)

    def fail(self, error: FineTuneError) -> None:
        """End the attempt with this error; the first one counts."""
        if not self.broken.done():
            self.broken.set_result(error)

    async def _save(self, snapshot: Snapshot) -> None:
        async with self._saving:  # one after the other, in the order of the steps
            await self._persist(snapshot.step, lambda: self._upload(snapshot))
        self._drop_local_copies(snapshot)
        complete = await self._complete(snapshot.step)
        if complete is not None and self._leads:
            record = manifests.record_of(*complete, self._uri(snapshot.step), time.time())
            async with self._keeping:
                await self._persist(snapshot.step, lambda: self._enter(record))

    async def _complete(self, step: int) -> tuple[manifests.Manifest, str] | None:
        """Wait for the manifest, and write it if this agent is the first to see all nodes' files.

        None when the checkpoint was complete, and retention has removed it since.
        """
        while await self._persist(step, lambda: self._is_kept(step)):
            found = await self._persist(step, lambda: self._write_manifest(step))
            if found is not None:
                return found
            await asyncio.sleep(POLL_SECONDS)
        return None

    async def _persist(self, step: int, work: Callable[[], Result]) -> Result:
        """Do a piece of work in a thread; a failing store is tried again, and the user told."""
        for count in range(1, TRIES + 1):
            try:
                return await asyncio.to_thread(work)
            except StorageError as error:
                if count == TRIES:
                    raise
                self._site.board.warn(f"checkpoint of step {step} is late: {error}")
                await asyncio.sleep(min(2.0**count / 2, LONGEST_WAIT_SECONDS))
        raise AssertionError("unreachable")

    def _upload(self, snapshot: Snapshot) -> None:
        store, folder, node = self._site.store, self._folder(snapshot.step), self._site.settings.node
        check_fence(store, self._attempt.number)
        names_of_files = sorted({name for files in snapshot.files.values() for name in files})
        target = f"{folder}/{manifests.node_folder(node)}"
        files = upload_files(store, snapshot.folder, names_of_files, target, verify=True)
        check_fence(store, self._attempt.number)
        written = manifests.NodeFiles(
            node=node,
            step=snapshot.step,
            attempt=self._attempt.number,
            files=files,
            metrics=snapshot.metrics,
            best=snapshot.best,
            state=snapshot.state,
        )
        store.put(f"{folder}/{manifests.node_file(node)}", written.to_json(indent=2).encode())
        self._site.metrics.checkpoint_bytes.inc(sum(file.size for file in files.values()))

    def _is_kept(self, step: int) -> bool:
        """Whether this node's list of files, once written, is still there: retention removes it first."""
        node_file = manifests.node_file(self._site.settings.node)
        return self._site.store.size(f"{self._folder(step)}/{node_file}") is not None

    def _write_manifest(self, step: int) -> tuple[manifests.Manifest, str] | None:
        store, folder = self._site.store, self._folder(step)
        if (found := manifests.read_manifest(store, folder)) is not None:
            return found
        nodes = manifests.read_nodes(store, folder, self._attempt.node_indexes)
        if nodes is None:
            return None
        manifest = manifests.compose(nodes, self._site.settings.run, self._fingerprint)
        check_fence(store, self._attempt.number)
        store.create(f"{folder}/{names.FILE_MANIFEST}", manifest.to_json(indent=2).encode())
        return manifests.read_manifest(store, folder)

    def _enter(self, record: CheckpointRecord) -> None:
        """Ledger and retention (node 0)."""
        store, number = self._site.store, self._attempt.number
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

    def _drop_local_copies(self, snapshot: Snapshot) -> None:
        """Keep on this node's disk only the newest snapshot and the best, whose weights are exported at the end."""
        self._saved.append(snapshot)
        best = next((saved for saved in reversed(self._saved) if saved.best), None)
        for saved in [saved for saved in self._saved if saved is not best and saved is not self._saved[-1]]:
            self._saved.remove(saved)
            shutil.rmtree(saved.folder, ignore_errors=True)

    @property
    def _is_alone(self) -> bool:
        return len(self._attempt.members) == 1

    @property
    def _leads(self) -> bool:
        return self._site.settings.node == self._attempt.node_indexes[0]

    def _folder(self, step: int) -> str:
        return manifests.folder_of(step, self._attempt.number)

    def _uri(self, step: int) -> str:
        return f"{self._site.store.uri}/{self._folder(step)}"


def show_ledger(site: Site, ledger: Ledger) -> None:
    """Put the ledger on the board."""
    resolved = site.settings.run.resolved
    best = best_of(ledger.checkpoints, resolved.metric, resolved.greater_is_better)
    site.board.set_ledger(ledger.checkpoints, best.step if best else None)
