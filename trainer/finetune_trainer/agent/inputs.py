"""Step 4: what the workers read, brought to this node: model, data, the best weights; and the choice of checkpoints.

A checkpoint itself is brought once the workers have chosen it (delivery.py).
"""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

from finetune_contract.attempt import Attempt
from finetune_trainer.agent.resume import FILE_COMPLETE, Candidate, choose_candidates, fetch_best
from finetune_trainer.agent.site import Site
from finetune_trainer.results import PreparedPointer
from finetune_trainer.store.store import Store
from finetune_trainer.store.transfer import download_folder


@dataclass(frozen=True)
class Inputs:
    """Local folders."""

    model: Path
    data: Path
    candidates: tuple[Candidate, ...]
    """Trusted checkpoints in the store, newest first."""
    best: Path | None
    """The best checkpoint so far (node 0)."""


async def fetch_inputs(site: Site, attempt: Attempt, pointer: PreparedPointer) -> Inputs:
    """Bring everything here. Raises StorageError, StorageAccessError.

    Model and data stay from attempt to attempt.
    """
    site.board.enter("Starting")
    work_dir = site.settings.work_dir
    model, data, candidates = await asyncio.gather(
        asyncio.to_thread(_fetch_folder, site, pointer.model_uri, work_dir / "model"),
        asyncio.to_thread(_fetch_folder, site, pointer.uri, work_dir / "data"),
        asyncio.to_thread(choose_candidates, site, attempt),
    )
    leads = site.settings.node == attempt.node_indexes[0]
    best = await asyncio.to_thread(fetch_best, site, candidates, work_dir / "best") if leads else None
    return Inputs(model=model, data=data, candidates=candidates, best=best)


def _fetch_folder(site: Site, uri: str, target: Path) -> Path:
    """Download a folder once; one that lies on this machine is used where it is."""
    store = Store.open(uri, site.trusted_environment, count_failure=site.metrics.count_storage_error)
    if store.folder is not None and store.folder.is_dir():
        return store.folder
    mark = target / FILE_COMPLETE
    if not (mark.is_file() and mark.read_text() == uri):
        shutil.rmtree(target, ignore_errors=True)
        download_folder(store, target)
        mark.write_text(uri)
    return target
