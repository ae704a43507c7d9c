"""What memory did not suffice for, and what comes next: the words of workers and agent alike. Pure, and without torch.

A failed attempt of this class is followed by one of half the micro-batch (`RunConfig.for_attempt`).
"""

from __future__ import annotations

from finetune_contract.run import Resolved
from finetune_trainer.marks import Stage


def explain_shortage(stage: Stage, resolved: Resolved) -> str:
    """What the worker was doing with how many rows at a time, and the remedy; `resolved`: as the attempt had it."""
    rows, judged = resolved.micro_batch_size, resolved.evaluation_batch_size
    if stage in ("evaluating", "finalizing"):
        coming = min(judged, 2 * (rows // 2))
        if 0 < coming < judged:
            next_ = f"the next attempt evaluates {coming}; evaluation.batchSize sets it from the start"
        else:
            next_ = "lower evaluation.batchSize"
        return f"to evaluate {_count(judged)} at a time: {next_}"
    if stage in ("starting", "saving"):
        return (
            f"while {stage}: raise resources.memory, or share the state with training.deepspeed.zeroStage: 3 or offload"
        )
    if rows == 1:
        return "for 1 row at a time: lower training.maxLength, or set training.gradientCheckpointing: true"
    return (
        f"for micro-batches of {rows} rows: the next attempt computes {_count(rows // 2)} at a time; "
        "training.microBatchSize sets it from the start"
    )


def _count(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows} rows"
