"""Text classification: one text or a pair of texts, one class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from finetune_trainer.tasks.class_metrics import ClassMetrics
from finetune_trainer.tasks.loading import load_pretrained
from finetune_trainer.tasks.padding import pad_inputs
from finetune_trainer.tasks.task import Batch, Description, Encoding, Row, Task, Tokenizer


def encode(columns: Mapping[str, Sequence[Any]], tokenizer: Tokenizer, encoding: Encoding) -> dict[str, list[Any]]:
    """Tokenize `text` (and `textPair`), number `label` by its place in the class names."""
    texts = list(columns["text"])
    pairs = list(columns["textPair"]) if "textPair" in columns else None
    tokens = tokenizer(texts, pairs, truncation=True, max_length=encoding.max_length)
    number = {label: index for index, label in enumerate(encoding.labels)}
    encoded = {name: tokens[name] for name in ("input_ids", "token_type_ids") if name in tokens}
    return {
        **encoded,
        "labels": [number[label] for label in columns["label"]],
        "text": [f"{text}\n{pair}" for text, pair in zip(texts, pairs, strict=True)] if pairs else texts,
        "length": [len(ids) for ids in encoded["input_ids"]],
        "targets": [1] * len(texts),
        "truncated": [bool(row.overflowing) for row in tokens.encodings],
    }


def load_model(folder: Path, labels: tuple[str, ...], dtype: torch.dtype) -> PreTrainedModel:
    """The encoder or decoder with a classification head of as many classes as there are labels."""
    return load_pretrained(
        AutoModelForSequenceClassification,
        folder,
        dtype=dtype,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        problem_type="single_label_classification",
        ignore_mismatched_sizes=True,
    )


def collate(rows: Sequence[Row], tokenizer: Tokenizer) -> Batch:
    """Pad to the longest row."""
    return Batch(
        inputs=pad_inputs(rows, tokenizer),
        targets={"labels": torch.tensor([row["labels"] for row in rows], dtype=torch.long)},
    )


def compute_losses(outputs: Any, batch: Batch, label_smoothing: float) -> Tensor:
    """Cross-entropy of every row: float32 [rows]."""
    return functional.cross_entropy(
        outputs.logits.float(), batch.targets["labels"], reduction="none", label_smoothing=label_smoothing
    )


def predict(outputs: Any, batch: Batch) -> list[Any]:
    """The class number of every row."""
    predictions: list[Any] = outputs.logits.argmax(dim=-1).tolist()
    return predictions


def describe(row: Row, prediction: Any, tokenizer: Tokenizer, labels: tuple[str, ...]) -> Description:
    """The text with true and predicted class."""
    return Description(text=row["text"], expected=labels[row["labels"]], predicted=labels[prediction])


TASK = Task(
    name="text-classification",
    encode=encode,
    load_model=load_model,
    collate=collate,
    compute_losses=compute_losses,
    create_metrics=ClassMetrics,
    predict=predict,
    describe=describe,
    new_head=True,
    adapter_type="SEQ_CLS",
)
