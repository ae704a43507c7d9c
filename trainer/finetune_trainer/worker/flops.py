"""Floating-point operations of training, by the formula that is shown wherever the number is: no measurement.

    full:     6 N + 12 L H S   a token
    adapters: 4 N +  8 L H S   (frozen weights need no gradient of their own)

N: parameters without embeddings, L: layers, H: hidden size, S: tokens in a row (PaLM, arXiv 2204.02311, appendix B).
"""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel


def count_flops_per_token(
    parameters: int, layers: int, hidden_size: int, row_tokens: float, all_trained: bool
) -> float:
    """Operations of forward and backward pass for one input token."""
    weights, attention = (6, 12) if all_trained else (4, 8)
    return weights * parameters + attention * layers * hidden_size * row_tokens


def count_parameters(model: nn.Module) -> tuple[int, int, int]:
    """All parameters, those that are trained, and those without embeddings; whole also when partitioned."""
    embeddings = {
        id(weight) for module in model.modules() if isinstance(module, nn.Embedding) for weight in module.parameters()
    }
    total = trained = inner = 0
    for parameter in model.parameters():
        size = int(getattr(parameter, "ds_numel", parameter.numel()))
        total += size
        trained += size if parameter.requires_grad else 0
        inner += 0 if id(parameter) in embeddings else size
    return total, trained, inner


def find_shape(model: PreTrainedModel) -> tuple[int, int]:
    """Layers and hidden size by the model's config; 0 where it does not say."""
    config = model.config.get_text_config()
    return int(getattr(config, "num_hidden_layers", 0) or 0), int(getattr(config, "hidden_size", 0) or 0)
