"""What is trained, as one safetensors file: gathered from all ranks, and put back into a model.

Names are those of the strategy's model, tied weights once; frozen weights are not part of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import deepspeed
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Module

from finetune_trainer.errors import FineTuneError

WEIGHTS_FOLDER: Final = "weights"
FILE_WEIGHTS: Final = "model.safetensors"


def gather_weights(model: Module, keep: bool) -> dict[str, Tensor]:
    """Trained parameters and buffers on the host, whole also at ZeRO stage 3. A collective; empty unless `keep`."""
    weights = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if hasattr(parameter, "ds_id"):
            with deepspeed.zero.GatheredParameters([parameter]):
                if keep:
                    weights[name] = parameter.detach().to("cpu", copy=True)
        elif keep:
            weights[name] = parameter.detach().to("cpu", copy=True)
    if keep:
        weights |= {name: buffer.detach().to("cpu", copy=True) for name, buffer in _persistent_buffers(model).items()}
    return weights


def write_weights(weights: dict[str, Tensor], folder: Path) -> None:
    """Write a weights folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / FILE_WEIGHTS)


def read_weights(model: Module, folder: Path) -> None:
    """Put the weights of a folder into a model of the same shape. Raises `FineTuneError` where they do not fit."""
    weights = load_file(folder / FILE_WEIGHTS)
    own: dict[str, Tensor] = {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    own |= _persistent_buffers(model)
    if own.keys() != weights.keys():
        differing = sorted(own.keys() ^ weights.keys())
        raise FineTuneError(
            f"{folder}: these weights belong to another model (differing: {', '.join(differing[:5])}); "
            "start the job anew under another name"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])


def _persistent_buffers(model: Module) -> dict[str, Tensor]:
    kept = model.state_dict(keep_vars=True).keys()
    return {name: buffer for name, buffer in model.named_buffers() if name in kept}
