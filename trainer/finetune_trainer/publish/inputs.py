"""Reads what the run left on disk. The only place of this room that reads documents; it judges nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from finetune_contract.document import Document
from finetune_contract.names import FILE_PREPARED
from finetune_contract.progress import CheckpointRecord
from finetune_contract.run import RunConfig
from finetune_trainer.data.prepared import PreparedData
from finetune_trainer.errors import FineTuneError
from finetune_trainer.results import FinalEvaluation

AnyDocument = TypeVar("AnyDocument", bound=Document)


class LedgerFile(Document):
    """ledger.json as it lies on disk; the store's own Ledger would bring the store's client along."""

    checkpoints: tuple[CheckpointRecord, ...] = ()
    """Oldest first."""


@dataclass(frozen=True)
class Inputs:
    """The documents of one finished run."""

    run: RunConfig
    final: FinalEvaluation
    prepared: PreparedData
    model_revision: str
    """Commit of a Hub model where preparation found it, else what the user wrote; empty for other sources."""
    checkpoints: tuple[CheckpointRecord, ...]
    attempt: int


def read_inputs(
    run: Path, evaluation: Path, data: Path, ledger: Path, attempt: int, *, model_revision: str = ""
) -> Inputs:
    """Read all documents; raises FineTuneError that names the file which is missing or is not what it should be."""
    config = read_document(run, RunConfig)
    return Inputs(
        run=config,
        final=read_document(evaluation, FinalEvaluation),
        prepared=read_document(data / FILE_PREPARED, PreparedData),
        model_revision=choose_revision(config, model_revision),
        checkpoints=read_document(ledger, LedgerFile).checkpoints,
        attempt=attempt,
    )


def choose_revision(run: RunConfig, found: str) -> str:
    """The revision to name: only a model of the Hub has one."""
    return (found or run.spec.model.revision) if run.spec.model.source.startswith("hf://") else ""


def read_document(path: Path, kind: type[AnyDocument]) -> AnyDocument:
    """Read one document; raises FineTuneError."""
    try:
        return kind.from_json(path.read_bytes())
    except OSError as error:
        raise FineTuneError(f"{path} cannot be read ({error}); the step that writes it has not ended") from error
    except ValueError as error:
        raise FineTuneError(
            f"{path} is not a {kind.__name__} ({error}); all parts of the trainer must come from one image"
        ) from error
