"""What is trained, as one safetensors file: gathered from all ranks, and put back into a model.

Names are those of the strategy's model, tied weights once; frozen weights are not part of it. The file is written by
one copy a tensor into mapped pages (https://huggingface.co/docs/safetensors: length, JSON header, bytes without gaps).
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, Final

import deepspeed
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import Module

from finetune_trainer.errors import FineTuneError
from finetune_trainer.worker.snapshot_files import SnapshotFiles
from finetune_trainer.worker.tensor_files import align, copy_tensors

WEIGHTS_FOLDER: Final = "weights"
FILE_WEIGHTS: Final = "model.safetensors"

DTYPES: Final = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def save_weights(model: Module, files: SnapshotFiles, path: Path, keep: bool) -> None:
    """Write trained parameters and buffers, whole also at ZeRO stage 3. A collective; writes nothing unless `keep`.

    Raises OSError where there is no room.
    """
    weights = find_weights(model)
    header, offsets, size = plan_weights(weights)
    if keep:
        files.sizes[path] = size
    if files.planning:
        return
    if not keep:
        _gather_each(weights, {}, None)
        return
    file = files.open(path)
    with file.lock:
        body = file.reserve(size)
        copy_tensors({0: torch.frombuffer(bytearray(header), dtype=torch.uint8)}, body)
        _gather_each(weights, offsets, body)
        file.finish(size)


def find_weights(model: Module) -> dict[str, Tensor]:
    """The model's own tensors that are trained, and its persistent buffers; at ZeRO stage 3 they may lie elsewhere."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {**trained, **_persistent_buffers(model)}


def plan_weights(weights: dict[str, Tensor]) -> tuple[bytes, dict[str, int], int]:
    """Header, the place of each tensor in the file, and the file's size. Pure."""
    ordered = sorted(weights.items(), key=lambda item: (-item[1].element_size(), item[0]))
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    places, end = {}, 0
    for name, tensor in ordered:
        shape = list(_whole_shape(tensor))
        begin, end = end, end + torch.Size(shape).numel() * tensor.element_size()
        entries[name] = {"dtype": DTYPES[tensor.dtype], "shape": shape, "data_offsets": [begin, end]}
        places[name] = begin
    text = json.dumps(entries).encode()
    length = align(len(text) + 8) - 8
    header = struct.pack("<Q", length) + text.ljust(length)
    return header, {name: len(header) + place for name, place in places.items()}, len(header) + end


def read_weights(model: Module, folder: Path) -> None:
    """Put the weights of a folder into a model of the same shape. Raises `FineTuneError` where they do not fit."""
    weights = load_file(folder / FILE_WEIGHTS)
    own = find_weights(model)
    if own.keys() != weights.keys():
        differing = sorted(own.keys() ^ weights.keys())
        raise FineTuneError(
            f"{folder}: these weights belong to another model (differing: {', '.join(differing[:5])}); "
            "start the job anew under another name"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])


def _gather_each(weights: dict[str, Tensor], places: dict[str, int], body: Tensor | None) -> None:
    """Bring tensors together one by one, as stage 3 must, and copy them into the file."""
    at_hand = {}
    for name, tensor in weights.items():
        if hasattr(tensor, "ds_id"):
            with deepspeed.zero.GatheredParameters([tensor]):
                if body is not None:
                    copy_tensors({places[name]: tensor}, body)
        elif body is not None:
            at_hand[places[name]] = tensor
    if body is not None:
        copy_tensors(at_hand, body)


def _whole_shape(tensor: Tensor) -> torch.Size:
    return getattr(tensor, "ds_shape", tensor.shape)


def _persistent_buffers(model: Module) -> dict[str, Tensor]:
    kept = model.state_dict(keep_vars=True).keys()
    return {name: buffer for name, buffer in model.named_buffers() if name in kept}
