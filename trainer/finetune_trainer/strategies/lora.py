"""LoRA (Hu et al. 2021, arXiv 2106.09685) by PEFT: low-rank updates of linear layers, new heads trained whole."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from finetune_contract.spec import LoraOptions, StrategySpec
from finetune_trainer.errors import ModelError
from finetune_trainer.tasks.task import Task


def prepare(model: PreTrainedModel, spec: StrategySpec, task: Task) -> nn.Module:
    """The frozen model with adapters on its linear layers; new weights and a new head are trained whole."""
    options = spec.lora or LoraOptions()
    whole = find_whole_modules(model, task.new_head)
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=_check_targets(model, options.targets) if options.targets else find_targets(model, whole),
        modules_to_save=list(whole) or None,
        task_type=task.adapter_type,
    )
    with warnings.catch_warnings():
        # PEFT asks transformers by a name that is about to go.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        adapted: nn.Module = get_peft_model(model, config)
    return adapted


def write_adapter(model: nn.Module, base: str, folder: Path) -> None:
    """The adapter alone, in PEFT's own layout; `base` names the model that it belongs to."""
    adapted = _as_adapted(model)
    for config in adapted.peft_config.values():
        config.base_model_name_or_path = base
    # Embeddings are not trained, and looking for those of the base would ask the Hub.
    adapted.save_pretrained(str(folder), save_embedding_layers=False)
    # PEFT's card is an empty form; the published folder has a card of its own.
    (folder / "README.md").unlink(missing_ok=True)


def merge(model: nn.Module) -> PreTrainedModel:
    """The adapters added into the weights."""
    merged: PreTrainedModel = _as_adapted(model).merge_and_unload(safe_merge=True)
    return merged


def _as_adapted(model: nn.Module) -> PeftModel:
    if not isinstance(model, PeftModel):
        raise TypeError(f"LoRA trains a PEFT model, not {type(model).__name__}")
    return model


def find_targets(model: PreTrainedModel, whole: tuple[str, ...]) -> str:
    """A pattern of all linear layers below the base model but those that are trained whole, for PEFT's full match."""
    prefix = model.base_model_prefix
    names = [name for name in _linear_layers(model) if name.startswith(f"{prefix}.") and not _is_within(name, whole)]
    if not names:
        raise ModelError(
            f"strategy.lora: the model has no linear layer below {prefix!r}; name some in strategy.lora.targets"
        )
    inner = sorted({re.sub(r"\d+", "#", name.removeprefix(f"{prefix}.")) for name in names})
    patterns = [re.escape(name).replace(r"\#", r"\d+") for name in inner]
    return rf"{re.escape(prefix)}\.({'|'.join(patterns)})"


def find_whole_modules(model: PreTrainedModel, new_head: bool) -> tuple[str, ...]:
    """Modules that no adapter can stand for: a new head, and layers whose weights the model's folder lacks."""
    heads = [
        name
        for name, module in model.named_children()
        if name != model.base_model_prefix and any(True for _ in module.parameters())
    ]
    new = {weight.rpartition(".")[0] for weight in getattr(model, "new_weights", ())} - {""}
    beside_heads = sorted(name for name in new if not _is_within(name, tuple(heads)))
    return (*(heads if new_head else ()), *beside_heads)


def _check_targets(model: PreTrainedModel, targets: tuple[str, ...]) -> list[str]:
    layers = _linear_layers(model)
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in layers):
            known = ", ".join(sorted({name.rpartition(".")[2] for name in layers}))
            raise ModelError(
                f"strategy.lora.targets: the model has no linear layer {target!r}; found: {known}. "
                "Name some of these, or remove targets"
            )
    return list(targets)


def _linear_layers(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]


def _is_within(name: str, modules: tuple[str, ...]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)
