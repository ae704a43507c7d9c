"""The shape of a strategy, and the strategies that there are.

A strategy decides which parameters have `requires_grad`; what is trained is what is checkpointed. It knows nothing of
loops, distribution and files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch.nn import Module
from transformers import PreTrainedModel

from finetune_contract.spec import StrategySpec
from finetune_trainer.errors import UserError
from finetune_trainer.strategies import full, lora
from finetune_trainer.tasks.task import Task


@dataclass(frozen=True)
class Strategy:
    """One method: a table of functions."""

    method: str
    prepare: Callable[[PreTrainedModel, StrategySpec, Task], Module]
    """The model as it is trained: what is frozen, what is added."""
    write_adapter: Callable[[Module, str, Path], None] | None
    """Write what was added to the model, named by the model it belongs to, into a folder; None: nothing is added."""
    merge: Callable[[Module], PreTrainedModel]
    """The trained model as a plain transformers model."""


STRATEGIES: dict[str, Strategy] = {
    "full": Strategy(method="full", prepare=full.prepare, write_adapter=None, merge=full.merge),
    "lora": Strategy(method="lora", prepare=lora.prepare, write_adapter=lora.write_adapter, merge=lora.merge),
}


def find_strategy(method: str) -> Strategy:
    """The strategy of that name; `UserError` where its code has not landed."""
    if method not in STRATEGIES:
        raise UserError(f"strategy.method: {method} is not supported yet; choose one of {', '.join(STRATEGIES)}")
    return STRATEGIES[method]
