"""Padding of token rows to one length, by the tokenizer's own side and padding token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torch import Tensor

from finetune_trainer.tasks.task import Row, Tokenizer

INPUT_COLUMNS: Final = ("input_ids", "token_type_ids")


def pad_inputs(rows: Sequence[Row], tokenizer: Tokenizer) -> dict[str, Tensor]:
    """Token columns of the rows as tensors [rows, longest row], with their attention mask."""
    columns = {name: [row[name] for row in rows] for name in INPUT_COLUMNS if name in rows[0]}
    padded = tokenizer.pad(columns, padding="longest", padding_side="right", return_tensors="pt")
    return {name: padded[name] for name in (*columns, "attention_mask")}
