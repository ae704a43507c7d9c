"""What a model's own files say of it without loading it: layers and widths from config.json, parameters from headers.

A safetensors file begins with eight bytes (length, little endian) and a JSON header of that length which names every
tensor with its data type and shape (https://huggingface.co/docs/safetensors), so a few kilobytes count a model of any
size. Must import neither torch nor transformers.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from typing import Any, Final

from finetune_cli.memory import TransformerShape

ReadRange = Callable[[str, int, int | None], bytes | None]
"""(file name, first byte, number of bytes or None for all) -> bytes, or None where there is no such file."""

_CONFIG: Final = "config.json"
_TOKENIZER: Final = "tokenizer_config.json"
_WEIGHTS: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"
_FLOATING: Final = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
_NO_LIMIT: Final = 1_000_000
_HIDDEN_SIZE: Final = ("hidden_size", "n_embd", "d_model", "dim")
_LAYERS: Final = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_POSITIONS: Final = ("max_position_embeddings", "n_positions", "max_sequence_length")
_NOT_LINEAR: Final = ("embed", "wte", "wpe", "lm_head", "classifier", "score", "relative_attention_bias")


@dataclass(frozen=True)
class Tensor:
    """One tensor of a model by its header."""

    name: str
    data_type: str
    shape: tuple[int, ...]

    @property
    def parameters(self) -> int:
        """Number of its elements that can be trained: 0 for integers such as position ids."""
        return prod(self.shape) if self.data_type in _FLOATING else 0


@dataclass(frozen=True)
class ModelFacts:
    """What could be read; None or empty where the files do not say it."""

    shape: TransformerShape | None
    length_limits: tuple[int, ...]
    """Tokens in a row that the model's positions and its tokenizer allow."""
    tensors: tuple[Tensor, ...]

    @property
    def parameters(self) -> int:
        """Parameters as stored (tied weights are stored once)."""
        return sum(tensor.parameters for tensor in self.tensors)

    def lora_parameters(self, rank: int, targets: Iterable[str] | None) -> int:
        """Parameters of adapters of that rank: rank x (rows + columns) for each adapted layer (arXiv 2106.09685)."""
        names = tuple(targets) if targets is not None else None
        return sum(rank * sum(tensor.shape) for tensor in self.tensors if _is_adapted(tensor, names))


def read_model_facts(read: ReadRange) -> ModelFacts | None:
    """Facts of the model folder that `read` reads; None where it has no config.json. Raises ValueError if broken."""
    text = read(_CONFIG, 0, None)
    if text is None:
        return None
    config = _parse(text, _CONFIG)
    return ModelFacts(
        shape=_find_shape(config),
        length_limits=tuple(_find_limits(config, read(_TOKENIZER, 0, None))),
        tensors=tuple(_read_tensors(read)),
    )


def _find_shape(config: dict[str, Any]) -> TransformerShape | None:
    encoder, decoder = _find(config, ("encoder_layers",)), _find(config, ("decoder_layers",))
    layers = _find(config, _LAYERS)
    if encoder is not None and decoder is not None:  # an encoder-decoder counts its halves apart
        layers = encoder + decoder
    hidden_size, vocabulary = _find(config, _HIDDEN_SIZE), _find(config, ("vocab_size",))
    if layers is None or hidden_size is None or vocabulary is None:
        return None
    return TransformerShape(layers=layers, hidden_size=hidden_size, vocabulary=vocabulary)


def _find_limits(config: dict[str, Any], tokenizer: bytes | None) -> Iterable[int]:
    limits = (_find(config, _POSITIONS), _parse(tokenizer, _TOKENIZER).get("model_max_length") if tokenizer else None)
    # Tokenizers without a limit say a number far above any model's.
    yield from (int(limit) for limit in limits if isinstance(limit, int) and 0 < limit < _NO_LIMIT)


def _find(config: dict[str, Any], names: tuple[str, ...]) -> int | None:
    text_config = config.get("text_config")
    for part in (config, text_config if isinstance(text_config, dict) else {}):
        for name in names:
            if isinstance(part.get(name), int):
                return int(part[name])
    return None


def _read_tensors(read: ReadRange) -> Iterable[Tensor]:
    index = read(_INDEX, 0, None)
    files = [_WEIGHTS] if index is None else sorted(set(_parse(index, _INDEX).get("weight_map", {}).values()))
    for file in files:
        yield from _read_header(read, file)


def _read_header(read: ReadRange, file: str) -> Iterable[Tensor]:
    prefix = read(file, 0, 8)
    if prefix is None:
        return
    if len(prefix) < 8:
        raise ValueError(f"{file} is shorter than a safetensors header; copy the model again")
    (length,) = struct.unpack("<Q", prefix)
    header = _parse(read(file, 8, length) or b"", file)
    for name, entry in header.items():
        if name != "__metadata__":
            yield Tensor(name=name, data_type=entry["dtype"], shape=tuple(entry["shape"]))


def _is_adapted(tensor: Tensor, targets: tuple[str, ...] | None) -> bool:
    if len(tensor.shape) != 2 or not tensor.name.endswith(".weight"):
        return False
    module = tensor.name.removesuffix(".weight")
    if targets is not None:
        return any(module == target or module.endswith(f".{target}") for target in targets)
    return not any(part in module for part in _NOT_LINEAR)


def _parse(text: bytes, file: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{file} of the model is no JSON ({error}); copy the model again") from error
    if not isinstance(value, dict):
        raise ValueError(f"{file} of the model is no JSON object; copy the model again")
    return value
