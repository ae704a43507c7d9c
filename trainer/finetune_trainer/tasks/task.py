"""The shape of a task: the functions in which one task differs from another.

Loops, distribution, checkpoints and gates know nothing beyond this shape, and a task knows nothing of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from finetune_contract.report import ConfusionMatrix

Row = Mapping[str, Any]
"""One row of prepared data: the columns that the task's `encode` made."""

Tokenizer = Any
"""A transformers tokenizer, or a processor that holds one."""


@dataclass(frozen=True)
class Encoding:
    """What rows are encoded with."""

    max_length: int
    labels: tuple[str, ...] = ()
    """Class names in the order of the model's ids; empty where the task has no classes."""


@dataclass(frozen=True)
class Batch:
    """Some rows as tensors.

    `inputs` go to the model's forward as they are, `targets` to the loss and the metrics; the first dimension of every
    input is the row. `rows` are positions in the prepared part.
    """

    inputs: dict[str, Tensor]
    targets: dict[str, Tensor]
    rows: tuple[int, ...] = ()
    counted: bool = True
    """False: a copy of some row that only keeps collectives in step; it has no weight in loss and metrics."""

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(
            inputs={name: tensor.to(device, non_blocking=True) for name, tensor in self.inputs.items()},
            targets={name: tensor.to(device, non_blocking=True) for name, tensor in self.targets.items()},
            rows=self.rows,
            counted=self.counted,
        )


class MetricStream(Protocol):
    """Counters that see every row of this rank once; `compute` is a collective and returns the figures of all ranks."""

    def update(self, outputs: Any, batch: Batch, losses: Tensor) -> None:
        """Count one batch; `losses` are those of `compute_losses` without label smoothing."""

    def compute(self) -> dict[str, float]:
        """Metric name -> value over all ranks' rows. Every rank must call it."""

    def confusion(self) -> ConfusionMatrix | None:
        """Counts by class after `compute`, where the task has classes."""


@dataclass(frozen=True)
class Description:
    """A row as people read it."""

    text: str
    expected: str
    predicted: str


@dataclass(frozen=True)
class Task:
    """One task: a table of functions."""

    name: str
    encode: Callable[[Mapping[str, Sequence[Any]], Tokenizer, Encoding], dict[str, list[Any]]]
    """Clean columns of some rows -> columns of prepared data, one entry a row, with `length` and `targets`."""
    load_model: Callable[[Path, tuple[str, ...], torch.dtype], PreTrainedModel]
    """The pre-trained model with this task's head; class names stand in its config."""
    collate: Callable[[Sequence[Row], Tokenizer], Batch]
    compute_losses: Callable[[Any, Batch, float], Tensor]
    """Model outputs, batch, label smoothing -> loss of every row, summed over the row's targets: float32 [rows]."""
    create_metrics: Callable[[tuple[str, ...], torch.device], MetricStream]
    """Figures with the names of `metric_names.METRIC_NAMES`; `loss` comes from the loop."""
    predict: Callable[[Any, Batch], list[Any]]
    """Model outputs -> what the model says of every row, as plain Python."""
    describe: Callable[[Row, Any, Tokenizer, tuple[str, ...]], Description]
    """A row and its prediction for people."""
    new_head: bool
    """The head is made for the job and always trained, whatever the strategy."""
    adapter_type: str
    """PEFT's name of the task, for adapter_config.json."""
