"""trainer_state.json: where a run stands; with DeepSpeed's files and the random states it is what a resume needs."""

from __future__ import annotations

from typing import Final

from finetune_contract.document import Document
from finetune_contract.report import CurvePoint
from finetune_trainer.evaluation.best import BestSoFar

FILE_STATE: Final = "trainer_state.json"
MOST_POINTS: Final = 1000
"""Points that a curve may have in the report."""

Curves = dict[str, tuple[CurvePoint, ...]]


class TrainerState(Document):
    """Where a run stands after `step` steps."""

    step: int = 0
    consumed_samples: int = 0
    epoch: float = 0.0
    best: BestSoFar = BestSoFar()
    evaluated_step: int = 0
    """Step of the last evaluation."""
    metrics: dict[str, float] = {}
    """Validation figures of that evaluation."""
    baseline: dict[str, float] | None = None
    """Test figures of the model before training; None while not measured."""
    curves: Curves = {}
    skipped_steps: tuple[int, ...] = ()
    """Steps whose rows were consumed without an update (failurePolicy.numeric: skip or rollback)."""
    recent_losses: tuple[float, ...] = ()
    """Losses of the last steps: what a jump is measured by."""
    world_size: int = 1
    zero_stage: int = 0
    seed: int = 0
    data_fingerprint: str = ""


def add_points(curves: Curves, step: int, values: dict[str, float]) -> Curves:
    """The curves with one more point each; every other point of a curve that has grown too long is dropped."""
    grown = dict(curves)
    for name, value in values.items():
        points = (*curves.get(name, ()), CurvePoint(step=step, value=value))
        grown[name] = points[::2] if len(points) > MOST_POINTS else points
    return grown
