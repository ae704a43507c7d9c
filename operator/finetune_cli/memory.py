"""Memory of one process while it trains, by published formulas. Pure arithmetic on numbers that others have read.

States: Rajbhandari et al. 2020, "ZeRO" (arXiv 1910.02054), section 3.1 and figure 1: with mixed precision 2 bytes a
parameter for weights, 2 for gradients and 12 for Adam (fp32 copy, momentum, variance); in fp32 4, 4 and 8. Stages 1,
2, 3 divide optimizer, gradients, weights by the number of processes.
Activations: Korthikanti et al. 2022, "Reducing Activation Recomputation" (arXiv 2205.05198), equation 1 without the
term of the attention matrix, since transformers' default attention (sdpa) keeps none; logits by section 4.3.
These are the terms that grow with the model: CUDA context, communication buffers and fragmentation come on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Precision = Literal["fp32", "bf16", "fp16"]
Place = Literal["device", "host"]

ZERO_PAPER: Final = "ZeRO, arXiv 1910.02054, section 3.1"
ACTIVATION_PAPER: Final = "Korthikanti et al., arXiv 2205.05198, equation 1"

_MASK_BYTES_PER_TOKEN_AND_WIDTH: Final = 2
_ELEMENTS_PER_TOKEN_AND_WIDTH: Final = 16
"""Of the paper's 34 bytes, 2 are dropout masks (one byte each) and 32 are 16 elements of two bytes."""


@dataclass(frozen=True)
class TransformerShape:
    """What the activation formula needs to know of a model."""

    layers: int
    hidden_size: int
    vocabulary: int


@dataclass(frozen=True)
class StateInputs:
    """What the memory of weights, gradients and optimizer depends on."""

    parameters: int
    trained_parameters: int
    precision: Precision
    processes: int
    zero_stage: int
    offload: Literal["none", "optimizer", "parameters"] = "none"


@dataclass(frozen=True)
class ActivationInputs:
    """What the memory of activations depends on; tokens: the longest row."""

    shape: TransformerShape
    precision: Precision
    rows: int
    tokens: int
    recompute: bool
    keeps_logits: bool


@dataclass(frozen=True)
class MemoryPart:
    """One part of the memory of one process, in bytes, and where the number comes from."""

    name: str
    bytes: int
    place: Place
    formula: str
    source: str


def estimate_states(inputs: StateInputs) -> tuple[MemoryPart, ...]:
    """Weights, gradients and optimizer of one process."""
    element = _element_bytes(inputs.precision)
    optimizer = 8 if inputs.precision == "fp32" else 12
    weights_place: Place = "host" if inputs.offload == "parameters" else "device"
    optimizer_place: Place = "device" if inputs.offload == "none" else "host"
    return (
        _state("weights", inputs.parameters, element, _shards(inputs, from_stage=3), weights_place),
        _state("gradients", inputs.trained_parameters, element, _shards(inputs, from_stage=2), "device"),
        _state("optimizer", inputs.trained_parameters, optimizer, _shards(inputs, from_stage=1), optimizer_place),
    )


def estimate_snapshot(inputs: StateInputs, workers_per_node: int) -> int:
    """Bytes of one checkpoint on the first node: the optimizer of each of its workers, and what is trained.

    DeepSpeed keeps a copy of the weights in fp32 with the optimizer's shard from stage 1 on. What is trained lies there
    twice below stage 3: as DeepSpeed's state, and as the model of a step that was evaluated.
    """
    element, trained = _element_bytes(inputs.precision), inputs.trained_parameters
    each = 12 if inputs.zero_stage or inputs.precision != "fp32" else 8
    sharing = _shards(inputs, from_stage=1)
    owners = workers_per_node if sharing > 1 else 1
    state = owners * -(-trained * each // sharing)
    copies = 1 if inputs.zero_stage == 3 else 2
    return state + copies * trained * element


def estimate_activations(inputs: ActivationInputs) -> tuple[MemoryPart, ...]:
    """Activations that the backward pass needs, and the logits of a language model."""
    parts = (_layer_activations(inputs),)
    return (*parts, _logits(inputs)) if inputs.keeps_logits else parts


def _layer_activations(inputs: ActivationInputs) -> MemoryPart:
    element, shape = _element_bytes(inputs.precision), inputs.shape
    layer = _ELEMENTS_PER_TOKEN_AND_WIDTH * element + _MASK_BYTES_PER_TOKEN_AND_WIDTH
    token_width = inputs.rows * inputs.tokens * shape.hidden_size
    if inputs.recompute:
        return MemoryPart(
            name="activations",
            bytes=token_width * (shape.layers * element + layer),
            place="device",
            formula=f"rows x tokens x hidden x ({shape.layers} layers x {element} + {layer} for one layer recomputed)",
            source=f"{ACTIVATION_PAPER}, with full recomputation (section 5)",
        )
    return MemoryPart(
        name="activations",
        bytes=token_width * shape.layers * layer,
        place="device",
        formula=f"rows {inputs.rows} x tokens {inputs.tokens} x hidden {shape.hidden_size} x layers {shape.layers}"
        f" x {layer}",
        source=f"{ACTIVATION_PAPER}, without the attention matrix",
    )


def _logits(inputs: ActivationInputs) -> MemoryPart:
    return MemoryPart(
        name="logits",
        bytes=4 * inputs.rows * inputs.tokens * inputs.shape.vocabulary,
        place="device",
        formula=f"rows {inputs.rows} x tokens {inputs.tokens} x vocabulary {inputs.shape.vocabulary} x 4",
        source="Korthikanti et al., arXiv 2205.05198, section 4.3",
    )


def _state(name: str, parameters: int, each: int, shards: int, place: Place) -> MemoryPart:
    formula = f"{parameters:,} parameters x {each}" + (f" / {shards} processes" if shards > 1 else "")
    return MemoryPart(name, -(-parameters * each // shards), place, formula, ZERO_PAPER)


def _shards(inputs: StateInputs, from_stage: int) -> int:
    return inputs.processes if inputs.zero_stage >= from_stage else 1


def _element_bytes(precision: Precision) -> int:
    return 4 if precision == "fp32" else 2
