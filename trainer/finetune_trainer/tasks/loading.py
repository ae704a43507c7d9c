"""Loading of a pre-trained model or tokenizer from a local folder, with words for what is wrong with the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel

from finetune_trainer.errors import ModelError
from finetune_trainer.tasks.task import Tokenizer


def load_pretrained(auto_class: Any, folder: Path, dtype: torch.dtype, **options: Any) -> PreTrainedModel:
    """The model of a transformers folder in the given dtype; weights that the folder lacks are new.

    Names of the new weights are kept as `model.new_weights`, so that every strategy trains them.
    """
    try:
        model, info = auto_class.from_pretrained(
            str(folder), dtype=dtype, output_loading_info=True, local_files_only=True, **options
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"model.source: no model for {auto_class.__name__} could be read ({_first_line(error)}); "
            "name a transformers folder with config.json and safetensors weights"
        ) from error
    mismatched = [entry[0] for entry in info["mismatched_keys"]]
    model.new_weights = tuple(sorted({*info["missing_keys"], *mismatched}))
    loaded: PreTrainedModel = model
    return loaded


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a transformers folder; a missing padding token becomes the end token."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"model.source: its tokenizer could not be read ({_first_line(error)}); "
            "put the tokenizer's files beside config.json"
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
