"""finetune-manifest.json: what the published folder holds, by digest, and what it was made from."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from finetune_contract.document import Document
from finetune_contract.names import FILE_PUBLISHED_MANIFEST
from finetune_contract.progress import DataPart, Metrics
from finetune_contract.report import Report
from finetune_contract.run import JobIdentity
from finetune_contract.text import LongText, ShortText

CHUNK_BYTES = 1 << 20


class PublishedFile(Document):
    """One file of the published folder."""

    size: Annotated[int, Field(ge=0)]
    """Bytes."""
    sha256: ShortText
    """Hex digest of its content."""


class BaseModelReference(Document):
    """The pre-trained model."""

    source: LongText
    revision: str = ""
    """Commit or branch of a Hub model; empty elsewhere."""


class DataReference(Document):
    """The data that the model was trained and judged on."""

    fingerprint: ShortText
    """Digest of data and settings."""
    split_seed: int
    """Seed by which parts were split off the training rows; with the fingerprint it gives the same rows again."""
    parts: dict[ShortText, DataPart]
    """train, validation, test: rows, rows left out by reason, split off or given."""
    labels: tuple[LongText, ...] = ()


class PublishedManifest(Document):
    """finetune-manifest.json."""

    manifest_version: Literal[1] = 1
    job: JobIdentity
    task: ShortText
    strategy: ShortText
    base_model: BaseModelReference
    data: DataReference
    config_digest: ShortText
    """SHA-256 of the whole RunConfig."""
    metrics: dict[str, Metrics]
    """validation, test, baseline."""
    best_step: int
    """Optimizer step of the published weights."""
    attempt: int
    versions: dict[str, str]
    files: dict[str, PublishedFile]
    """Path in the folder -> size and digest; every file but this one."""


def build_manifest(report: Report, files: dict[str, PublishedFile]) -> PublishedManifest:
    """The manifest of a published folder with these files."""
    return PublishedManifest(
        job=report.job,
        task=report.task,
        strategy=report.spec.get("strategy", {}).get("method", "full"),
        base_model=BaseModelReference(source=report.model, revision=report.model_revision),
        data=DataReference(
            fingerprint=report.data.fingerprint,
            split_seed=report.spec["data"].get("split", {}).get("seed", 0),
            parts=report.data.parts,
            labels=report.data.labels,
        ),
        config_digest=report.config_digest,
        metrics=report.metrics,
        best_step=report.best_step,
        attempt=report.attempt,
        versions=report.versions,
        files=files,
    )


def describe_files(folder: Path) -> dict[str, PublishedFile]:
    """Size and digest of every file below a folder, but for the manifest itself."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / FILE_PUBLISHED_MANIFEST)
    return {path.relative_to(folder).as_posix(): describe_file(path) for path in paths}


def describe_file(path: Path) -> PublishedFile:
    """Size and digest of a file, read in pieces since weights can be larger than memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return PublishedFile(size=path.stat().st_size, sha256=digest.hexdigest())
