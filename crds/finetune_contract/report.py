"""report.json: the end of a run for machines; report.html, the model card and the status hold the same numbers."""

from typing import Annotated, Any, Literal

from pydantic import Field

from finetune_contract.document import Document
from finetune_contract.progress import (
    CheckpointRecord,
    DataSummary,
    EvaluationResult,
    GateResult,
    Metrics,
    Published,
)
from finetune_contract.run import JobIdentity, Resolved
from finetune_contract.text import LongText, ShortText


class CurvePoint(Document):
    """One point of a curve."""

    step: int
    value: float


class WorstExample(Document):
    """A test row that the model gets most wrong."""

    row: int
    """Row id in the source."""
    text: LongText
    expected: LongText
    predicted: LongText
    loss: float


class ConfusionMatrix(Document):
    """Rows: the true class; columns: the predicted one."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


class Report(Document):
    """report.json."""

    report_version: Literal[1] = 1
    task: ShortText
    job: JobIdentity
    model: LongText
    """URI of the pre-trained model."""
    model_revision: str = ""
    """Commit or branch of a Hub model; empty elsewhere."""
    succeeded: bool
    reason: ShortText
    message: LongText
    metrics: dict[str, Metrics]
    """validation, test, baseline."""
    gate: tuple[GateResult, ...]
    published: Published | None = None
    best_step: int
    total_steps: int
    attempt: int
    resolved: Resolved
    spec: dict[str, Any]
    """The user's spec as written: values equal to a default are absent, and so are secrets."""
    config_digest: str = ""
    """SHA-256 of the whole RunConfig, as sha256:hex."""
    data: DataSummary
    checkpoints: tuple[CheckpointRecord, ...] = ()
    curves: Annotated[dict[str, tuple[CurvePoint, ...]], Field(max_length=64)] = {}
    """train/loss, train/learning_rate, validation/<metric>; at most 1,000 points each."""
    confusion: ConfusionMatrix | None = None
    """Of the test rows."""
    worst_examples: tuple[WorstExample, ...] = ()
    parameters_total: int = 0
    """Weights of the model."""
    parameters_trained: int = 0
    """Weights that were trained."""
    seconds: float = 0.0
    """Wall time of the last attempt."""
    program: str = ""
    """Version of finetune-operator."""
    versions: dict[str, str] = {}
    """Packages that made it."""


def evaluation_of(report: Report) -> EvaluationResult:
    """The report's figures in the shape that status and outcome carry."""
    return EvaluationResult(
        validation=report.metrics.get("validation", {}),
        test=report.metrics.get("test", {}),
        baseline=report.metrics.get("baseline", {}),
        gate=report.gate,
        step=report.best_step,
    )
