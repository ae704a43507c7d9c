"""Accuracy, precision, recall and F1 of a classifier, streamed to counters (torchmetrics).

`precision`, `recall` and `f1` without a suffix are macro averages; `f1/<class>` is one class. Figures by class are left
out where there are more than `CLASSES_SHOWN` classes.
"""

from __future__ import annotations

import warnings
from typing import Any, Final

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)

from finetune_contract.report import ConfusionMatrix
from finetune_trainer.tasks.metric_names import AVERAGED, CLASSES_SHOWN, name_of_class
from finetune_trainer.tasks.task import Batch

AVERAGES: Final = {"precision": MulticlassPrecision, "recall": MulticlassRecall, "f1": MulticlassF1Score}


class ClassMetrics:
    """Counters over the rows of this rank; `compute` adds up all ranks' counters."""

    def __init__(self, labels: tuple[str, ...], device: torch.device) -> None:
        self._labels = labels
        classes = max(2, len(labels))
        metrics: dict[str, Any] = {"accuracy": MulticlassAccuracy(classes, average="micro")}
        for name, metric in AVERAGES.items():
            metrics[name] = metric(classes, average="macro")
            metrics[f"{name}_weighted"] = metric(classes, average="weighted")
            metrics[f"{name}_by_class"] = metric(classes, average=None)
        self._metrics = MetricCollection(metrics).to(device)
        self._confusion = MulticlassConfusionMatrix(classes).to(device)
        self._counts: list[list[int]] = []

    def update(self, outputs: Any, batch: Batch, losses: Tensor) -> None:
        """Count one batch."""
        predictions = outputs.logits.argmax(dim=-1)
        self._metrics.update(predictions, batch.targets["labels"])
        self._confusion.update(predictions, batch.targets["labels"])

    def compute(self) -> dict[str, float]:
        """Metric name -> value over all ranks' rows. A collective."""
        with warnings.catch_warnings():
            # A rank without rows has counted nothing, which is right here.
            warnings.filterwarnings("ignore", message="The ``compute`` method of metric", category=UserWarning)
            values = self._metrics.compute()
            self._counts = self._confusion.compute().tolist()
        figures = {name: float(value) for name, value in values.items() if value.ndim == 0}
        if len(self._labels) <= CLASSES_SHOWN:
            for metric in AVERAGED:
                by_class = values[f"{metric}_by_class"].tolist()
                for label, value in zip(self._labels, by_class, strict=True):
                    figures[name_of_class(metric, label)] = float(value)
        return figures

    def confusion(self) -> ConfusionMatrix | None:
        """Counts by class of the last `compute`."""
        counts = tuple(tuple(int(count) for count in row) for row in self._counts)
        return ConfusionMatrix(labels=self._labels, counts=counts) if counts else None
