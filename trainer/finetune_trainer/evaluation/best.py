"""The best evaluation so far, and whether waiting for a better one still pays. Pure."""

from __future__ import annotations

import math

from finetune_contract.document import Document
from finetune_contract.spec.evaluation import EarlyStoppingSpec


class BestSoFar(Document):
    """What the evaluations of a run have come to; travels in every checkpoint."""

    step: int = 0
    """Step of the best evaluation; 0: none yet."""
    value: float | None = None
    stale: int = 0
    """Evaluations since the last one that counted as an improvement for early stopping."""
    reference: float | None = None
    """Value that early stopping compares with."""

    def judge(self, step: int, value: float, greater_is_better: bool, min_delta: float = 0.0) -> BestSoFar:
        """The state after an evaluation.

        Every strictly better value is the best; only one better by more than `min_delta` ends the waiting of early
        stopping. A value that is not a number is never better.
        """
        if self.step == step:
            return self
        better = _is_better(value, self.value, greater_is_better, 0.0)
        improved = _is_better(value, self.reference, greater_is_better, min_delta)
        return BestSoFar(
            step=step if better else self.step,
            value=value if better else self.value,
            stale=0 if improved else self.stale + 1,
            reference=value if improved else self.reference,
        )

    def has_run_out(self, early_stopping: EarlyStoppingSpec | None) -> bool:
        """Whether training should end early."""
        return early_stopping is not None and self.stale >= early_stopping.patience


def _is_better(value: float, other: float | None, greater_is_better: bool, margin: float) -> bool:
    if math.isnan(value):
        return False
    if other is None:
        return True
    return value > other + margin if greater_is_better else value < other - margin
