"""The trained model as a plain transformers folder: what is published, and what the final figures are computed from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch.nn import Module
from transformers import PreTrainedModel

from finetune_contract.names import ADAPTER_FOLDER
from finetune_trainer.strategies.strategy import Strategy


def export_model(model: Module, strategy: Strategy, tokenizer: Any, base: Path, folder: Path) -> PreTrainedModel:
    """Merge the trained model and write config, safetensors, tokenizer and (for adapters) the adapter beside them.

    The weights have the number type of the base model's, which is what users of the base model expect.
    """
    folder.mkdir(parents=True, exist_ok=True)
    adapter = folder / ADAPTER_FOLDER if strategy.method != "full" else None
    plain = strategy.merge(model, adapter)
    plain = plain.to(read_dtype(base))
    plain.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return plain


def read_dtype(base: Path) -> torch.dtype:
    """Number type of the base model's weights by its config; float32 where it does not say."""
    config = json.loads((base / "config.json").read_text())
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    dtype = getattr(torch, str(name), torch.float32)
    return dtype if isinstance(dtype, torch.dtype) and dtype.is_floating_point else torch.float32
