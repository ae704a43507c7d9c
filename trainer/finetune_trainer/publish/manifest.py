"""finetune-manifest.json: what the published folder holds, by digest, and what it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from finetune_contract.document import Document
from finetune_contract.names import FILE_PUBLISHED_MANIFEST
from finetune_contract.progress import DataPart, Metrics
from finetune_contract.report import Report
from finetune_contract.run import JobIdentity
from finetune_contract.text import LongText, ShortText
from finetune_trainer.data.prepared import SplitRecord
from finetune_trainer.store.digests import FileDigest, digest_file

FILE_SPLIT_ROWS: Final = "finetune-split.json"
"""Row ids of the parts that were split off the training rows, as preparation wrote them."""


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
    """Seed by which parts were split off the training rows."""
    splits: dict[str, SplitRecord] = {}
    """Parts that were split off, each with the digest of its row ids, which stand in finetune-split.json."""
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
    files: dict[str, FileDigest]
    """Path in the folder -> size and digest; every file but this one."""


def build_manifest(report: Report, splits: dict[str, SplitRecord], files: dict[str, FileDigest]) -> PublishedManifest:
    """The manifest of a published folder with these files, from rows that were split like this."""
    return PublishedManifest(
        job=report.job,
        task=report.task,
        strategy=report.spec.get("strategy", {}).get("method", "full"),
        base_model=BaseModelReference(source=report.model, revision=report.model_revision),
        data=DataReference(
            fingerprint=report.data.fingerprint,
            split_seed=report.spec["data"].get("split", {}).get("seed", 0),
            splits=splits,
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


def digest_files(folder: Path) -> dict[str, FileDigest]:
    """Size and digest of every file below a folder, but for the manifest itself."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / FILE_PUBLISHED_MANIFEST)
    return {path.relative_to(folder).as_posix(): digest_file(path) for path in paths}
