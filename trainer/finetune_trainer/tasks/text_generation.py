"""Text generation by a decoder: chats, prompt and completion, or plain text.

Loss looks at what the assistant says (chats), at the completion, or at everything (plain text); the token that ends a
turn belongs to it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM, PreTrainedModel

from finetune_trainer.tasks.chat import Span, has_markers, render_chat
from finetune_trainer.tasks.loading import load_pretrained
from finetune_trainer.tasks.padding import pad_inputs
from finetune_trainer.tasks.task import Batch, Description, Encoding, Row, Task, Tokenizer
from finetune_trainer.tasks.token_metrics import TokenMetrics

Spoken = tuple[str, list[Span]]
"""A text, and its spans that the loss looks at."""

IGNORED: Final = -100
"""Label of a token that the loss does not look at (PyTorch's ignore_index)."""


def encode(columns: Mapping[str, Sequence[Any]], tokenizer: Tokenizer, encoding: Encoding) -> dict[str, list[Any]]:
    """Tokenize whatever columns there are: `messages` (JSON), `prompt` and `completion`, or `text`."""
    if "messages" in columns:
        encoded = _encode_chats([json.loads(messages) for messages in columns["messages"]], tokenizer)
    elif "prompt" in columns:
        pairs = zip(columns["prompt"], columns["completion"], strict=True)
        encoded = _encode_spans([_join(prompt, completion, tokenizer) for prompt, completion in pairs], True, tokenizer)
    else:
        encoded = _encode_spans([_join("", text, tokenizer) for text in columns["text"]], True, tokenizer)
    cut = [(ids[: encoding.max_length], labels[: encoding.max_length]) for ids, labels in encoded]
    return {
        "input_ids": [ids for ids, _ in cut],
        "labels": [labels for _, labels in cut],
        "length": [len(ids) for ids, _ in cut],
        # The first token has nothing before it that could predict it.
        "targets": [sum(label != IGNORED for label in labels[1:]) for _, labels in cut],
        "truncated": [len(ids) > encoding.max_length for ids, _ in encoded],
    }


def _join(prompt: str, completion: str, tokenizer: Tokenizer) -> Spoken:
    text = prompt + completion + (tokenizer.eos_token or "")
    return text, [(len(prompt), len(text))]


def _encode_chats(chats: list[list[dict[str, Any]]], tokenizer: Tokenizer) -> list[tuple[list[int], list[int]]]:
    if not has_markers(tokenizer):
        # A template writes the special tokens itself.
        return _encode_spans([render_chat(chat, tokenizer) for chat in chats], False, tokenizer)
    rendered = tokenizer.apply_chat_template(
        chats, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, padding=False
    )
    return [
        (list(ids), [token if said else IGNORED for token, said in zip(ids, spoken, strict=True)])
        for ids, spoken in zip(rendered["input_ids"], rendered["assistant_masks"], strict=True)
    ]


def _encode_spans(
    spoken: Sequence[Spoken], add_special_tokens: bool, tokenizer: Tokenizer
) -> list[tuple[list[int], list[int]]]:
    texts = [text for text, _ in spoken]
    tokens = tokenizer(texts, add_special_tokens=add_special_tokens, return_offsets_mapping=True)
    return [
        (list(ids), [token if _overlaps(place, spans) else IGNORED for token, place in zip(ids, places, strict=True)])
        for ids, places, (_, spans) in zip(tokens["input_ids"], tokens["offset_mapping"], spoken, strict=True)
    ]


def _overlaps(place: Span, spans: Sequence[Span]) -> bool:
    start, end = place
    return any(start < last and first < end for first, last in spans)


def load_model(folder: Path, labels: tuple[str, ...], dtype: torch.dtype) -> PreTrainedModel:
    """The decoder with its own language head."""
    return load_pretrained(AutoModelForCausalLM, folder, dtype=dtype)


def collate(rows: Sequence[Row], tokenizer: Tokenizer) -> Batch:
    """Pad to the longest row; targets are listed by position, so that only their logits are looked at.

    `positions` counts through the flattened logits [rows * tokens] and is one before the target: int64 [targets].
    """
    inputs = pad_inputs(rows, tokenizer)
    width = inputs["input_ids"].shape[1]
    positions, labels, owners = [], [], []
    for index, row in enumerate(rows):
        for place, label in enumerate(row["labels"][1:]):
            if label != IGNORED:
                positions.append(index * width + place)
                labels.append(label)
                owners.append(index)
    return Batch(
        inputs=inputs,
        targets={
            "positions": torch.tensor(positions, dtype=torch.long),
            "labels": torch.tensor(labels, dtype=torch.long),
            "owners": torch.tensor(owners, dtype=torch.long),
        },
    )


def compute_losses(outputs: Any, batch: Batch, label_smoothing: float) -> Tensor:
    """Cross-entropy summed over each row's targets: float32 [rows]."""
    losses = functional.cross_entropy(
        _select_logits(outputs, batch).float(),
        batch.targets["labels"],
        reduction="none",
        label_smoothing=label_smoothing,
    )
    rows = torch.zeros(batch.inputs["input_ids"].shape[0], dtype=losses.dtype, device=losses.device)
    return rows.index_add(0, batch.targets["owners"], losses)


def _select_logits(outputs: Any, batch: Batch) -> Tensor:
    logits: Tensor = outputs.logits
    return logits.reshape(-1, logits.shape[-1]).index_select(0, batch.targets["positions"])


def predict(outputs: Any, batch: Batch) -> list[Any]:
    """The likeliest token at each target of every row, each given the true tokens before it."""
    tokens = _select_logits(outputs, batch).argmax(dim=-1).tolist()
    rows: list[list[int]] = [[] for _ in range(batch.inputs["input_ids"].shape[0])]
    for owner, token in zip(batch.targets["owners"].tolist(), tokens, strict=True):
        rows[owner].append(token)
    return rows


def describe(row: Row, prediction: Any, tokenizer: Tokenizer, labels: tuple[str, ...]) -> Description:
    """What stands before the first target, the targets, and the likeliest tokens in their place."""
    spoken = [label for label in row["labels"][1:] if label != IGNORED]
    first = next(place for place, label in enumerate(row["labels"]) if label != IGNORED)
    return Description(
        text=tokenizer.decode(row["input_ids"][:first]),
        expected=tokenizer.decode(spoken),
        predicted=tokenizer.decode(prediction),
    )


TASK = Task(
    name="text-generation",
    encode=encode,
    load_model=load_model,
    collate=collate,
    compute_losses=compute_losses,
    create_metrics=TokenMetrics,
    predict=predict,
    describe=describe,
    new_head=False,
    adapter_type="CAUSAL_LM",
)
