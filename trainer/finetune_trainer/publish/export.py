"""The trained model as a plain transformers folder: what is published, and what the final figures are computed from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch.nn import Module

from finetune_contract.names import ADAPTER_FOLDER
from finetune_trainer.strategies.strategy import Strategy


def export_model(
    model: Module, strategy: Strategy, tokenizer: Any, base: Path, *, base_name: str, folder: Path
) -> None:
    """Write config, safetensors and tokenizer of the merged model; an adapter lies beside them in `adapter/`.

    `base` is the pre-trained model's folder, whose number type the weights get, since that is what its users expect;
    `base_name` is the model's name for other people.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if strategy.write_adapter is not None:
        strategy.write_adapter(model, base_name, folder / ADAPTER_FOLDER)
    strategy.merge(model).to(read_dtype(base)).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


def read_dtype(base: Path) -> torch.dtype:
    """Number type of the base model's weights by its config; float32 where it does not say."""
    config = json.loads((base / "config.json").read_text())
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    dtype = getattr(torch, str(name), torch.float32)
    return dtype if isinstance(dtype, torch.dtype) and dtype.is_floating_point else torch.float32
