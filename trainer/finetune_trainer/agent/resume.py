"""Which checkpoints this attempt may resume from, and the weights of the best one.

DeepSpeed unpickles its files, so a checkpoint is trusted only if its manifest has the digest that the job's status has
kept (a local run: its ledger). Whoever can write the bucket can write a manifest.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from finetune_contract import names
from finetune_contract.attempt import Attempt
from finetune_trainer.agent.held import find_held
from finetune_trainer.agent.site import Site
from finetune_trainer.errors import DamagedError
from finetune_trainer.messages import Offer
from finetune_trainer.store.ledger import read_ledger
from finetune_trainer.store.manifest import Manifest, files_of_weights, read_manifest, record_of
from finetune_trainer.store.retention import best_of
from finetune_trainer.store.transfer import download_verified

FILE_COMPLETE = ".fetched"
CONCURRENCY = 8
"""Manifests that are read at a time."""
MOST_OFFERS = 8
"""Checkpoints that the workers may choose from."""


@dataclass(frozen=True)
class Candidate:
    """A checkpoint whose manifest is trusted."""

    folder: str
    """Its name, e.g. step-00000100-a1."""
    manifest: Manifest
    digest: str
    """Of the manifest."""

    @property
    def world_size(self) -> int:
        """Worker processes that wrote it."""
        return self.manifest.world_size

    @property
    def path(self) -> str:
        """Below the job's folder."""
        return f"{names.CHECKPOINTS_FOLDER}/{self.folder}"


def choose_candidates(site: Site, attempt: Attempt) -> tuple[Candidate, ...]:
    """Trusted checkpoints, newest first. What is named and cannot be trusted becomes a warning.

    Raises StorageError where the store does not answer: no progress is given up for that.
    """
    trusted = find_trusted(site, attempt)
    with ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="manifests") as pool:
        found = pool.map(lambda item: _check(site, *item), trusted.items())
        good = [candidate for candidate in found if candidate is not None]
    return tuple(sorted(good, key=lambda item: (item.manifest.step, item.manifest.attempt), reverse=True))


def _check(site: Site, folder: str, digest: str) -> Candidate | None:
    """The checkpoint, if its manifest is there and is the trusted one."""
    try:
        complete = read_manifest(site.store, f"{names.CHECKPOINTS_FOLDER}/{folder}")
    except DamagedError as error:
        problem = str(error)
    else:
        if complete is not None and complete[1] == digest:
            return Candidate(folder, *complete)
        problem = "its manifest is not the one that was verified"
        if complete is None:
            problem = f"it has no manifest in {site.store.uri}"
    site.board.warn(f"checkpoint {folder} is passed over: {problem}")
    return None


def find_usable(site: Site, attempt: Attempt) -> tuple[Offer, ...]:
    """Snapshots in this pod that the attempt's ranks can load as they lie here.

    Another number of processes needs all nodes' files, but at stage 0, where every rank holds the whole state.
    """
    resolved = site.settings.run.for_attempt(attempt).resolved
    held = find_held(site.held)
    return tuple(offer for offer in held if offer.world_size == resolved.world_size or resolved.zero_stage == 0)


def make_offers(candidates: Sequence[Candidate], held: Sequence[Offer]) -> tuple[Offer, ...]:
    """What the workers may choose from, newest first: what this pod's memory holds, and what the store has. Pure."""
    offers = {
        candidate.folder: Offer(
            name=candidate.folder, step=candidate.manifest.step, world_size=candidate.world_size, path=None
        )
        for candidate in candidates
    }
    offers |= {offer.name: offer for offer in held}
    newest = sorted(offers.values(), key=lambda offer: (offer.step, offer.name), reverse=True)
    return tuple(newest[:MOST_OFFERS])


def is_told_checkpoints(site: Site, attempt: Attempt) -> bool:
    """Whether the operator says what is trusted; else the job's ledger does."""
    return bool(attempt.checkpoints or site.settings.run.job.uid)


def find_trusted(site: Site, attempt: Attempt) -> dict[str, str]:
    """Checkpoint folder -> manifest digest: the attempt's; a local run, which has no status, asks its ledger."""
    if is_told_checkpoints(site, attempt):
        return dict(attempt.checkpoints)
    ledger = read_ledger(site.store)
    return {record.uri.rpartition("/")[2]: record.digest for record in ledger.checkpoints if record.digest}


def fetch_best(site: Site, candidates: Sequence[Candidate], target: Path) -> Path | None:
    """Download the weights of the best checkpoint of earlier attempts into `target/<folder>/weights`, once in a pod.

    Weights that are damaged are a warning: the worker then exports the last ones and says so.
    """
    resolved = site.settings.run.resolved
    records = [record_of(item.manifest, item.digest, item.path, at=0.0) for item in candidates]
    best = best_of(records, resolved.metric, resolved.greater_is_better)
    if best is None:
        return None
    candidate = candidates[records.index(best)]
    folder = target / candidate.folder
    try:
        download_once(site, candidate, files_of_weights(candidate.manifest), folder)
    except DamagedError as error:
        site.board.warn(f"the weights of checkpoint {candidate.folder} cannot be used: {error}")
        return None
    return folder


def download_once(site: Site, candidate: Candidate, files: Mapping[str, str], folder: Path) -> None:
    """Bring files of a checkpoint (path below its folder -> path in `folder`) here, each compared with its digest.

    A folder that was completed in this pod before is taken as it is. Raises DamagedError, StorageError.
    """
    mark = folder / FILE_COMPLETE
    if mark.is_file() and mark.read_text() == candidate.digest:
        return
    shutil.rmtree(folder, ignore_errors=True)
    expected = {f"{candidate.path}/{path}": digest for path, digest in candidate.manifest.files.items()}
    targets = {f"{candidate.path}/{path}": folder / local for path, local in files.items()}
    download_verified(site.store, expected, targets)
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(candidate.digest)
