"""The prepared parts as a worker reads them: rows by position, lengths and targets of all rows in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import load_from_disk
from numpy.typing import NDArray

from finetune_trainer.data.prepared import COLUMN_LENGTH, COLUMN_TARGETS, PARTS
from finetune_trainer.tasks.task import Batch, Row, Task, Tokenizer


@dataclass(frozen=True)
class Part:
    """One part of the prepared data."""

    name: str
    table: Any
    """datasets.Dataset, memory-mapped."""
    lengths: NDArray[np.int32]
    """Input tokens of each row."""
    targets: NDArray[np.int32]
    """Targets of each row."""

    def __len__(self) -> int:
        return len(self.lengths)

    def read_rows(self, positions: Sequence[int]) -> list[Row]:
        """The rows at these positions."""
        columns = self.table[list(positions)]
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def read_batch(self, positions: Sequence[int], task: Task, tokenizer: Tokenizer) -> Batch:
        """The rows as a batch; without positions, some row that does not count, to keep collectives in step."""
        chosen = list(positions) or [int(self.lengths.argmin())]
        batch = task.collate(self.read_rows(chosen), tokenizer)
        return Batch(inputs=batch.inputs, targets=batch.targets, rows=tuple(positions), counted=bool(positions))


def load_parts(data_dir: Path) -> dict[str, Part]:
    """The parts that there are, by name."""
    return {name: _load_part(name, data_dir / name) for name in PARTS if (data_dir / name).is_dir()}


def _load_part(name: str, folder: Path) -> Part:
    table = load_from_disk(str(folder))
    return Part(
        name=name,
        table=table,
        lengths=np.asarray(table[COLUMN_LENGTH], dtype=np.int32),
        targets=np.asarray(table[COLUMN_TARGETS], dtype=np.int32),
    )
