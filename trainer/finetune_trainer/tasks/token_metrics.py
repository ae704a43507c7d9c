"""Perplexity and token accuracy of a language model, streamed to counters (torchmetrics); logits are never kept."""

from __future__ import annotations

import math
import warnings
from typing import Any, Final

import torch
from torch import Tensor
from torchmetrics import SumMetric

from finetune_contract.report import ConfusionMatrix
from finetune_trainer.tasks.task import Batch

LARGEST_EXPONENT: Final = 700.0
"""Above it a perplexity is no finite float."""


class TokenMetrics:
    """Counters over the target tokens of this rank; `compute` adds up all ranks' counters."""

    def __init__(self, labels: tuple[str, ...], device: torch.device) -> None:
        self._loss, self._right, self._targets = (SumMetric().set_dtype(torch.float64).to(device) for _ in range(3))

    def update(self, outputs: Any, batch: Batch, losses: Tensor) -> None:
        """Count one batch."""
        labels = batch.targets["labels"]
        logits = outputs.logits.reshape(-1, outputs.logits.shape[-1]).index_select(0, batch.targets["positions"])
        self._right.update((logits.argmax(dim=-1) == labels).sum().double())
        self._loss.update(losses.double().sum())
        self._targets.update(torch.tensor(float(labels.numel()), dtype=torch.float64))

    def compute(self) -> dict[str, float]:
        """Metric name -> value over all ranks' tokens. A collective."""
        with warnings.catch_warnings():
            # A rank without rows has counted nothing, which is right here.
            warnings.filterwarnings("ignore", message="The ``compute`` method of metric", category=UserWarning)
            loss, right, targets = (float(metric.compute()) for metric in (self._loss, self._right, self._targets))
        if not targets:
            return {}
        return {"perplexity": math.exp(min(loss / targets, LARGEST_EXPONENT)), "token_accuracy": right / targets}

    def confusion(self) -> ConfusionMatrix | None:
        """A language model has none."""
        return None
