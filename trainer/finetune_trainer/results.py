"""What the workers leave on disk for the publisher: the final evaluation and the story of the run so far."""

from __future__ import annotations

from finetune_contract.document import Document
from finetune_contract.progress import DataSummary, EvaluationResult
from finetune_contract.report import ConfusionMatrix, CurvePoint, WorstExample


class FinalEvaluation(Document):
    """attempt_dir/evaluation.json, written by rank 0."""

    evaluation: EvaluationResult
    """Figures from the exported weights, gates decided."""
    best_step: int
    total_steps: int
    curves: dict[str, tuple[CurvePoint, ...]]
    """train/loss, train/learning_rate, validation/<metric>."""
    confusion: ConfusionMatrix | None = None
    worst_examples: tuple[WorstExample, ...] = ()
    parameters_total: int = 0
    parameters_trained: int = 0
    seconds: float = 0.0
    versions: dict[str, str] = {}


class PreparedPointer(Document):
    """<job>/prepared.json: preparation is done, and this is where its result lies. Written last, create-only."""

    uri: str
    """Folder of the prepared data, shared by jobs of the same fingerprint."""
    model_uri: str
    """Folder of the model that trainers fetch: the user's own, or the copy of a Hub model in the store."""
    model_revision: str = ""
    """Commit of a Hub model."""
    summary: DataSummary
