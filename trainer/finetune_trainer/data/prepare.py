"""The story of preparation: find, look, fingerprint, read, split, check, encode, store, point.

Whatever the user must mend is found as early as it can be: the bucket first, then the columns, before any model file.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_contract.names import FILE_PREPARED, PREPARED_FOLDER
from finetune_contract.progress import DataSummary
from finetune_contract.run import RunConfig
from finetune_trainer.data.fingerprint import compute_fingerprint, describe_settings, digest_tokenizer
from finetune_trainer.data.model_files import choose_max_length, fetch_tokenizer, find_model_commit, store_model
from finetune_trainer.data.parts import check_rows, drop_contaminated, find_labels, split_off_missing
from finetune_trainer.data.prepared import COLUMN_ROW, FILE_SPLIT, PARTS, PreparedData, SplitRecord
from finetune_trainer.data.sources import Source, find_sources
from finetune_trainer.data.speech import Speech
from finetune_trainer.data.table import Table, peek_columns, read_table
from finetune_trainer.errors import UserError
from finetune_trainer.results import PreparedPointer
from finetune_trainer.store.store import Store
from finetune_trainer.store.transfer import upload_folder
from finetune_trainer.tasks.metric_names import check_metrics

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preparation:
    """What is known before any row is read but the first."""

    run: RunConfig
    sources: tuple[Source, ...]
    model_files: Path
    """Folder with the tokenizer and config of the model."""
    max_length: int
    settings: dict[str, Any]
    fingerprint: str
    work_dir: Path
    speech: Speech


def prepare(run: RunConfig, work_dir: Path, speech: Speech) -> PreparedPointer:
    """Prepare the data of a job, or find it prepared; write the job's pointer last.

    Raises `UserError` for what the user must mend, `StorageError` for what the storage failed at.
    """
    speech.progress("find")
    destination = Store.open(run.destination)
    destination.probe()
    commit, preparation = _look(run, work_dir, speech)
    path = f"{PREPARED_FOLDER}/{preparation.fingerprint}"
    found = destination.get_document(f"{path}/{FILE_PREPARED}", PreparedData)
    summary = found.summary.model_copy(update={"reused": True}) if found else _make(preparation, destination, path)
    check_metrics(run, summary.labels)
    speech.progress("model")
    pointer = PreparedPointer(
        uri=f"{destination.uri}/{path}",
        model_uri=store_model(run, commit, destination, work_dir / "model"),
        model_revision=commit,
        summary=summary,
    )
    Store.open(run.job_uri).create(FILE_PREPARED, pointer.to_json(indent=2).encode())
    return pointer


def _look(run: RunConfig, work_dir: Path, speech: Speech) -> tuple[str, Preparation]:
    """Columns first, then the model's commit and tokenizer files."""
    if run.spec.data.deduplicate.method == "near":
        raise UserError("data.deduplicate.method: near is not supported yet; choose exact or none")
    sources = find_sources(run.spec.data)
    for source in sources:
        peek_columns(source, run.resolved.columns, run.spec.data, work_dir / "rows")
    commit = find_model_commit(run)
    model_files = fetch_tokenizer(run, commit, work_dir / "tokenizer")
    max_length = choose_max_length(run.spec.training.max_length, model_files)
    identities = {source.part: source.identity for source in sources}
    settings = describe_settings(run, identities, digest_tokenizer(model_files), max_length)
    fingerprint = compute_fingerprint(settings)
    return commit, Preparation(run, sources, model_files, max_length, settings, fingerprint, work_dir, speech)


def _make(preparation: Preparation, destination: Store, path: str) -> DataSummary:
    tables = _read(preparation)
    labels = find_labels(tables)
    folder = preparation.work_dir / "prepared"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    prepared = _encode(preparation, tables, labels, folder)
    preparation.speech.progress("store")
    (folder / FILE_PREPARED).write_text(prepared.to_json(indent=2))
    upload_folder(destination, folder, path, last=FILE_PREPARED)
    return prepared.summary


def _read(preparation: Preparation) -> dict[str, Table]:
    data, columns = preparation.run.spec.data, preparation.run.resolved.columns
    rows = preparation.work_dir / "rows"
    tables = {
        source.part: read_table(source, columns, data, rows, preparation.speech.follow(f"read {source.part}"))
        for source in preparation.sources
    }
    check_rows(tables)
    tables, contaminated = drop_contaminated(split_off_missing(tables, data), data)
    check_rows(tables)
    if contaminated:
        words = f"{contaminated} training rows also stand in validation or test rows (contamination: "
        logger.warning("%s%s)", words, data.contamination)
    return tables


def _encode(preparation: Preparation, tables: dict[str, Table], labels: tuple[str, ...], folder: Path) -> PreparedData:
    # torch and transformers take seconds to import: a user's mistake is told, and data is reused, without them.
    from finetune_trainer.data.encode import check_masked, encode_part, write_part
    from finetune_trainer.tasks.loading import load_tokenizer
    from finetune_trainer.tasks.registry import find_task
    from finetune_trainer.tasks.task import Encoding

    spec = preparation.run.spec
    task, encoding = find_task(spec.task), Encoding(preparation.max_length, labels)
    tokenizer = load_tokenizer(preparation.model_files)
    figures, ids = {}, {}
    for part in (part for part in PARTS if part in tables):
        report = preparation.speech.follow(f"tokenize {part}", len(tables[part]))
        encoded, figures[part] = encode_part(tables[part], task, tokenizer, encoding, report)
        check_masked(part, figures[part], spec.data.max_masked_share, encoding.max_length)
        write_part(encoded, folder / part)
        if tables[part].split_off:
            ids[part] = encoded[COLUMN_ROW].to_pylist()
    (folder / FILE_SPLIT).write_text(json.dumps(ids))
    return PreparedData(
        summary=DataSummary(
            fingerprint=preparation.fingerprint, parts=figures, labels=labels, max_length=encoding.max_length
        ),
        splits={part: _record_split(rows) for part, rows in ids.items()},
        settings={name: json.dumps(value, ensure_ascii=False) for name, value in preparation.settings.items()},
    )


def _record_split(rows: list[int]) -> SplitRecord:
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    return SplitRecord(rows=len(rows), digest=f"sha256:{digest}")
