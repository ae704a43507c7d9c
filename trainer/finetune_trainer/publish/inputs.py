"""Reads what the run left on disk. The only place of this room that reads documents; it judges nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_contract.names import FILE_PREPARED
from finetune_contract.progress import CheckpointRecord, DataSummary
from finetune_contract.run import RunConfig
from finetune_trainer.errors import FineTuneError
from finetune_trainer.results import FinalEvaluation


@dataclass(frozen=True)
class Inputs:
    """The documents of one finished run."""

    run: RunConfig
    final: FinalEvaluation
    data: DataSummary
    model_revision: str
    """Commit of a Hub model where preparation found it, else what the user wrote; empty for other sources."""
    checkpoints: tuple[CheckpointRecord, ...]
    attempt: int


def read_inputs(run: Path, evaluation: Path, data: Path, ledger: Path, attempt: int) -> Inputs:
    """Read all documents; raises FineTuneError that names the file which is missing or is not what it should be."""
    config = RunConfig.from_data(_read_json(run))
    prepared = _read_json(data / FILE_PREPARED)
    records = _read_json(ledger)
    try:
        return Inputs(
            run=config,
            final=FinalEvaluation.from_data(_read_json(evaluation)),
            data=DataSummary.from_data(prepared.get("summary", prepared)),
            model_revision=_find_revision(config, prepared),
            checkpoints=tuple(CheckpointRecord.from_data(record) for record in records["checkpoints"]),
            attempt=attempt,
        )
    except (ValueError, KeyError) as error:
        raise FineTuneError(
            f"One of {evaluation}, {data / FILE_PREPARED} and {ledger} is not the document that the publisher "
            f"expects ({error}); all parts of the trainer must come from one version, so check the image"
        ) from error


def _find_revision(run: RunConfig, prepared: dict[str, Any]) -> str:
    if not run.spec.model.source.startswith("hf://"):
        return ""
    return str(prepared.get("modelRevision") or run.spec.model.revision)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise FineTuneError(
            f"{path} cannot be read as JSON ({error}); the step that writes it has not ended"
        ) from error
    if not isinstance(document, dict):
        raise FineTuneError(f"{path} holds a {type(document).__name__} where a JSON object is expected")
    return document
