"""What every step of an attempt is given: the settings, the store, the board."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from finetune_trainer.agent.held import HeldSnapshots
from finetune_trainer.agent.launcher import Launcher
from finetune_trainer.agent.log_format import Place
from finetune_trainer.agent.metrics import Metrics
from finetune_trainer.agent.progress import Board
from finetune_trainer.agent.settings import Settings
from finetune_trainer.agent.shared_memory import SharedMemory
from finetune_trainer.errors import StoppedError
from finetune_trainer.results import PreparedPointer
from finetune_trainer.store.store import Store

Result = TypeVar("Result")


@dataclass
class Known:
    """What this agent has learnt of the job and what never changes again."""

    pointer: PreparedPointer | None = None
    """Where the prepared data lies."""


@dataclass(frozen=True)
class Site:
    """One agent's tools."""

    settings: Settings
    trusted_environment: Mapping[str, str]
    """The pod's environment with credentials: for the store and for data preparation, never for workers."""
    store: Store
    """The job's folder."""
    board: Board
    metrics: Metrics
    launcher: Launcher
    held: HeldSnapshots = field(default_factory=HeldSnapshots)
    """Snapshots that lie in this pod."""
    memory: SharedMemory = field(default_factory=lambda: SharedMemory(None, 0))
    """Where workers put them."""
    known: Known = field(default_factory=Known)
    place: Place = field(default_factory=Place)
    """What every line of the log says of this agent."""


async def unless_stopped(work: Coroutine[Any, Any, Result], stop: asyncio.Event) -> Result:
    """Do something that may be given up at any moment. Raises StoppedError when the wish to stop comes first."""
    task, wish = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, wish}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise StoppedError("asked to stop before training began; nothing is lost")
        return task.result()
    finally:
        wish.cancel()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
