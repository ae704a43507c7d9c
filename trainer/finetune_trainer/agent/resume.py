"""Which checkpoints this attempt may resume from, and their files, each compared with its digest.

DeepSpeed unpickles its files, so a checkpoint is trusted only if its manifest has the digest that the job's status has
kept (a local run: its ledger). Whoever can write the bucket can write a manifest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_contract import names
from finetune_contract.attempt import Attempt
from finetune_trainer.agent.site import Site
from finetune_trainer.errors import StorageError
from finetune_trainer.store.ledger import read_ledger
from finetune_trainer.store.manifest import Manifest, files_for_resume, files_of_weights, read_manifest, record_of
from finetune_trainer.store.retention import best_of
from finetune_trainer.store.transfer import download_verified

DEPTH = 2
"""Checkpoints that every node fetches: when one node finds its part of the newest damaged, all have the next one."""


@dataclass(frozen=True)
class Candidate:
    """A checkpoint whose manifest is trusted."""

    folder: str
    """Its name, e.g. step-00000100-a1."""
    manifest: Manifest
    digest: str
    """Of the manifest."""

    @property
    def path(self) -> str:
        """Below the job's folder."""
        return f"{names.CHECKPOINTS_FOLDER}/{self.folder}"


def choose_candidates(site: Site, attempt: Attempt) -> tuple[Candidate, ...]:
    """Trusted checkpoints, newest first. What is named and cannot be trusted becomes a warning."""
    found = []
    for folder, digest in find_trusted(site, attempt).items():
        try:
            complete = read_manifest(site.store, f"{names.CHECKPOINTS_FOLDER}/{folder}")
        except StorageError as error:
            site.board.warn(f"checkpoint {folder} is passed over: {error}")
            continue
        if complete is None:
            site.board.warn(f"checkpoint {folder} is passed over: it has no manifest in {site.store.uri}")
        elif complete[1] != digest:
            site.board.warn(f"checkpoint {folder} is passed over: its manifest is not the one that was verified")
        else:
            found.append(Candidate(folder, *complete))
    return tuple(sorted(found, key=lambda item: (item.manifest.step, item.manifest.attempt), reverse=True))


def find_trusted(site: Site, attempt: Attempt) -> dict[str, str]:
    """Checkpoint folder -> manifest digest: the attempt's; a local run, which has no status, asks its ledger."""
    if attempt.checkpoints or site.settings.run.job.uid:
        return dict(attempt.checkpoints)
    ledger = read_ledger(site.store)
    return {record.uri.rpartition("/")[2]: record.digest for record in ledger.checkpoints if record.digest}


def fetch_candidates(site: Site, candidates: Sequence[Candidate], target: Path) -> tuple[Path, ...]:
    """Download this node's part of the newest good checkpoints into `target/<folder>`, newest first."""
    fetched: list[Path] = []
    for candidate in candidates:
        if len(fetched) == DEPTH:
            break
        files = files_for_resume(candidate.manifest, site.settings.node)
        try:
            _download(site, candidate, files, target / candidate.folder)
        except StorageError as error:
            site.board.warn(f"checkpoint {candidate.folder} is passed over: {error}")
        else:
            fetched.append(target / candidate.folder)
    return tuple(fetched)


def fetch_best(site: Site, candidates: Sequence[Candidate], target: Path) -> Path | None:
    """Download the weights of the best checkpoint of earlier attempts into `target/<folder>/weights`."""
    resolved = site.settings.run.resolved
    records = [record_of(item.manifest, item.digest, item.path, at=0.0) for item in candidates]
    best = best_of(records, resolved.metric, resolved.greater_is_better)
    if best is None:
        return None
    candidate = candidates[records.index(best)]
    _download(site, candidate, files_of_weights(candidate.manifest), target / candidate.folder)
    return target / candidate.folder


def _download(site: Site, candidate: Candidate, files: Mapping[str, str], folder: Path) -> None:
    expected = {f"{candidate.path}/{path}": digest for path, digest in candidate.manifest.files.items()}
    targets = {f"{candidate.path}/{path}": folder / local for path, local in files.items()}
    download_verified(site.store, expected, targets)
