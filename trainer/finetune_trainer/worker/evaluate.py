"""One pass over a part without training: exact figures over all ranks, every row once, nothing random used up."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from torch.nn import Module

from finetune_contract.report import ConfusionMatrix, WorstExample
from finetune_trainer.data.prepared import COLUMN_ROW
from finetune_trainer.errors import NumericError
from finetune_trainer.tasks.task import Batch
from finetune_trainer.worker.deal import deal_rows
from finetune_trainer.worker.materials import Materials
from finetune_trainer.worker.parts import Part
from finetune_trainer.worker.ranks import Ranks

TEXT_SHOWN: Final = 4000
"""Characters of a row that a report shows."""


@dataclass(frozen=True)
class Evaluation:
    """Figures of one part, the same on every rank."""

    metrics: dict[str, float]
    confusion: ConfusionMatrix | None
    worst: tuple[WorstExample, ...]


@dataclass(frozen=True, order=True)
class _Judged:
    loss: float
    position: int
    prediction: Any = field(compare=False)


def evaluate(
    model: Module,
    part: Part,
    materials: Materials,
    ranks: Ranks,
    after_batch: Callable[[], None],
    *,
    keep_worst: int = 0,
) -> Evaluation:
    """Evaluate a part. A collective; `after_batch` is called equally often on every rank.

    The model is left in evaluation mode. Raises `NumericError` when the loss is not a number.
    """
    task = materials.task
    model.eval()
    stream = task.create_metrics(materials.labels, ranks.device)
    loss_sum = torch.zeros((), dtype=torch.float64, device=ranks.device)
    worst: list[_Judged] = []
    for positions in _deal_part(part, materials, ranks):
        batch = part.read_batch(positions, task, materials.tokenizer).to(ranks.device)
        with torch.no_grad():
            outputs = model(**batch.inputs)
            losses = task.compute_losses(outputs, batch, 0.0)
        if batch.counted:
            stream.update(outputs, batch, losses)
            loss_sum += losses.double().sum()
            if keep_worst:
                worst = heapq.nlargest(keep_worst, [*worst, *_judge_rows(outputs, batch, losses, part, materials)])
        after_batch()
    (loss,) = ranks.sum([float(loss_sum)])
    mean = loss / max(1, int(part.targets.sum()))
    if not math.isfinite(mean):
        raise NumericError(f"the loss of the {part.name} rows is {mean}; lower training.learningRate")
    metrics = {"loss": mean, **stream.compute()}
    return Evaluation(
        metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
        confusion=stream.confusion(),
        worst=_describe_worst(worst, part, materials, ranks, keep_worst) if keep_worst else (),
    )


def _deal_part(part: Part, materials: Materials, ranks: Ranks) -> list[list[int]]:
    batch_size = materials.run.resolved.evaluation_batch_size
    return deal_rows(np.arange(len(part)), part.lengths, ranks.rank, ranks.world_size, batch_size)


def _judge_rows(outputs: Any, batch: Batch, losses: torch.Tensor, part: Part, materials: Materials) -> list[_Judged]:
    predictions = materials.task.predict(outputs, batch)
    means = [loss / int(part.targets[row]) for loss, row in zip(losses.tolist(), batch.rows, strict=True)]
    return [_Judged(*judged) for judged in zip(means, batch.rows, predictions, strict=True)]


def _describe_worst(
    worst: list[_Judged], part: Part, materials: Materials, ranks: Ranks, count: int
) -> tuple[WorstExample, ...]:
    everywhere = [judged for rank in ranks.gather(worst) for judged in rank]
    chosen = heapq.nlargest(count, everywhere)
    rows = part.read_rows([judged.position for judged in chosen]) if chosen else []
    examples = []
    for judged, row in zip(chosen, rows, strict=True):
        description = materials.task.describe(row, judged.prediction, materials.tokenizer, materials.labels)
        examples.append(
            WorstExample(
                row=row[COLUMN_ROW],
                text=description.text[:TEXT_SHOWN],
                expected=description.expected[:TEXT_SHOWN],
                predicted=description.predicted[:TEXT_SHOWN],
                loss=judged.loss,
            )
        )
    return tuple(examples)
