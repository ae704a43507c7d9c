"""Snapshots that lie in this pod: in slots of shared memory, or on its disk. Kept from attempt to attempt.

What is here is known by this process alone: an agent that dies takes its pod's memory with it. A snapshot stays until
it is a verified checkpoint and a newer one is complete, so the newest complete one is always here for a resume in
place. What a worker was writing when it died is not held: it is not complete before all local ranks have said so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_contract import names
from finetune_contract.attempt import Attempt
from finetune_trainer.messages import Offer, Released, SnapshotReady

Release = Callable[[Released], None]


@dataclass
class Snapshot:
    """One step's snapshot on this node."""

    step: int
    attempt: Attempt
    """The attempt that wrote it."""
    world_size: int
    folder: Path
    files: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Rank -> its files, below folder."""
    metrics: dict[str, float] = field(default_factory=dict)
    best: bool = False
    state: dict[str, float | int | str] = field(default_factory=dict)
    is_settled: bool = False
    """It is a verified checkpoint, or can never be one: nothing reads its files for the store any more."""

    @property
    def name(self) -> str:
        """Its checkpoint's folder, e.g. step-00000100-a1."""
        return names.checkpoint_folder(self.step, self.attempt.number)

    @property
    def all_files(self) -> tuple[str, ...]:
        """Files of all local ranks."""
        return tuple(sorted({name for files in self.files.values() for name in files}))

    def add(self, message: SnapshotReady) -> None:
        """Take one rank's word."""
        self.files[message.rank] = message.files
        if message.state or message.metrics or message.best:
            self.metrics, self.best, self.state = message.metrics, message.best, message.state


class HeldSnapshots:
    """Complete snapshots of this node, the work on them that outlives an attempt, and the attempt that counts now."""

    def __init__(self) -> None:
        self.attempt: Attempt | None = None
        """The newest attempt that this agent follows; the fence is compared with its number."""
        self.uploading = asyncio.Lock()
        """Snapshots are uploaded one after the other, in the order of their completion."""
        self.entering = asyncio.Lock()
        """The same for the ledger."""
        self._snapshots: list[Snapshot] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._release: Release | None = None
        self._unsaid: list[Released] = []

    @property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """What is held, in the order of completion."""
        return tuple(self._snapshots)

    def begin(self, attempt: Attempt) -> None:
        """A new attempt; its workers are told what is released once they listen."""
        self.attempt = attempt
        self._release, self._unsaid = None, []

    def release_to(self, release: Release) -> None:
        """The workers listen from now on."""
        self._release = release
        while self._unsaid:
            release(self._unsaid.pop(0))

    def add(self, snapshot: Snapshot) -> None:
        """A snapshot is complete."""
        self._snapshots.append(snapshot)
        self._release_old()

    def settle(self, snapshot: Snapshot) -> None:
        """Nothing reads this snapshot's files for the store any more."""
        snapshot.is_settled = True
        self._release_old()

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something that goes on when the attempt has ended."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def wait(self, seconds: float) -> None:
        """Before the agent leaves: give what is being uploaded this long."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    def _release_old(self) -> None:
        for snapshot in [snapshot for snapshot in self._snapshots[:-1] if snapshot.is_settled]:
            self._snapshots.remove(snapshot)
            released = Released(step=snapshot.step, folder=str(snapshot.folder))
            if self._release is None:
                self._unsaid.append(released)
            else:
                self._release(released)


def find_held(held: HeldSnapshots) -> tuple[Offer, ...]:
    """What workers can resume from without the store, newest first."""
    return tuple(
        Offer(name=snapshot.name, path=str(snapshot.folder), step=snapshot.step, world_size=snapshot.world_size)
        for snapshot in sorted(held.snapshots, key=lambda held: (held.step, held.attempt.number), reverse=True)
    )
