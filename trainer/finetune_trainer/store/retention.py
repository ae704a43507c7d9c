"""Which checkpoints may go. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from finetune_contract.progress import CheckpointRecord

COMPLETE = ("Verified", "Evaluated", "Promoted", "Rejected")


def newest_of(records: Sequence[CheckpointRecord]) -> CheckpointRecord | None:
    """The newest complete checkpoint: the highest step, of its writers the latest attempt."""
    complete = [record for record in records if record.state in COMPLETE]
    return max(complete, key=_age, default=None)


def rank_by_metric(
    records: Sequence[CheckpointRecord], metric: str, greater_is_better: bool
) -> tuple[CheckpointRecord, ...]:
    """Complete checkpoints that have the metric, best first; of equals the earlier step, as the trainer decides."""
    measured = [
        record for record in records if record.state in COMPLETE and math.isfinite(record.metrics.get(metric, math.nan))
    ]
    sign = -1.0 if greater_is_better else 1.0
    return tuple(sorted(measured, key=lambda record: (sign * record.metrics[metric], _age(record))))


def best_of(records: Sequence[CheckpointRecord], metric: str, greater_is_better: bool) -> CheckpointRecord | None:
    """The best complete checkpoint by the metric, if one has it."""
    return next(iter(rank_by_metric(records, metric, greater_is_better)), None)


def plan_retention(
    records: Sequence[CheckpointRecord], keep_last: int, keep_best: int, metric: str, greater_is_better: bool
) -> tuple[CheckpointRecord, ...]:
    """What may be deleted, oldest first, of whichever attempt.

    Never the best, never the newest complete one, never one that is not complete (it is being written).
    """
    complete = sorted((record for record in records if record.state in COMPLETE), key=_age)
    kept = [
        *complete[-max(keep_last, 1) :],
        *rank_by_metric(records, metric, greater_is_better)[: max(keep_best, 1)],
    ]
    return tuple(record for record in complete if record not in kept)


def _age(record: CheckpointRecord) -> tuple[int, int]:
    return record.step, record.attempt
