"""What a test breaks inside a worker: functions that `pool.run_attempt` calls there before the worker begins."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from finetune_trainer.tasks.task import Batch, Task


@dataclass(frozen=True)
class PoisonedRows:
    """Rows (positions in the prepared training part) that training cannot learn from.

    loss: their loss is not a number; spike: it is a thousand times as high; gradients: only what flows back is not
    finite.
    """

    rows: frozenset[int]
    how: Literal["loss", "spike", "gradients"] = "loss"

    def __call__(self) -> None:
        """Poison them in this process, in training only."""
        from finetune_trainer.worker import steps, train

        train_step = steps.train_step

        def step(engine: Any, step: Any, task: Task, ranks: Any, **named: Any) -> Any:
            poisoned = replace(task, compute_losses=self._poison(task.compute_losses))
            return train_step(engine, step, poisoned, ranks, **named)

        vars(train)["train_step"] = step

    def _poison(self, compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def compute_losses(outputs: Any, batch: Batch, label_smoothing: float) -> Tensor:
            losses = compute(outputs, batch, label_smoothing)
            hit = torch.tensor([float(row in self.rows) for row in batch.rows] or [0.0] * len(losses))
            if not hit.any():
                return losses
            if self.how == "gradients":
                return losses + torch.sqrt(0.0 * hit * losses)  # its value is 0, its slope 0 / 0
            return losses * torch.where(hit > 0, math.nan if self.how == "loss" else 1000.0, 1.0)

        return compute_losses


class NoMemory:
    """The worker's memory ends in the first batch of training, or of an evaluation."""

    def __init__(self, where: Literal["training", "evaluating"]) -> None:
        self.where = where

    def __call__(self) -> None:
        """Let the first batch end by torch's own error."""
        from finetune_trainer.worker import train

        def fail(*arguments: Any, **named: Any) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        vars(train)["train_step" if self.where == "training" else "evaluate"] = fail
