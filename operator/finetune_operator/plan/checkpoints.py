"""What the status says of checkpoints: the ledger of node 0, cut to what the status can hold."""

from __future__ import annotations

from typing import Final

from finetune_contract.progress import CheckpointRecord, Progress
from finetune_contract.run import Resolved
from finetune_contract.status import BestCheckpoint, FineTuneJobStatus

LIMIT: Final = 64


def fold_checkpoints(status: FineTuneJobStatus, heard: Progress | None, resolved: Resolved) -> FineTuneJobStatus:
    """The status with node 0's ledger; an empty ledger is one that was not read yet and changes nothing.

    The digests in the status are what a later attempt trusts, so nothing but a ledger may replace them.
    """
    if heard is None or not heard.checkpoints:
        return status
    best = _find_best(heard, resolved.metric)
    return status.model_copy(
        update={
            "checkpoints": _cut(heard.checkpoints, heard.best_step),
            "best_checkpoint": best or status.best_checkpoint,
        }
    )


def _find_best(heard: Progress, metric: str) -> BestCheckpoint | None:
    records = [each for each in heard.checkpoints if each.step == heard.best_step and metric in each.metrics]
    if not records:
        return None
    record = max(records, key=lambda each: each.attempt)
    return BestCheckpoint(step=record.step, uri=record.uri, metric=metric, value=record.metrics[metric])


def _cut(records: tuple[CheckpointRecord, ...], best_step: int | None) -> tuple[CheckpointRecord, ...]:
    """Oldest first; the newest and the best are kept."""
    ordered = sorted(records, key=lambda each: (each.step, each.attempt))
    newest = ordered[-LIMIT:]
    best = [each for each in ordered[:-LIMIT] if each.step == best_step]
    return tuple(best + newest)[-LIMIT:] if not best else (best[-1], *newest[1:])
