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
    merge: Callable[[Module, Path | None], PreTrainedModel]
    """The trained model as a plain transformers model; an adapter is also written to the folder, where one is given."""


STRATEGIES: dict[str, Strategy] = {
    "full": Strategy(method="full", prepare=full.prepare, merge=full.merge),
    "lora": Strategy(method="lora", prepare=lora.prepare, merge=lora.merge),
}


def find_strategy(method: str) -> Strategy:
    """The strategy of that name; `UserError` where its code has not landed."""
    if method not in STRATEGIES:
        raise UserError(f"strategy.method: {method} is not supported yet; choose one of {', '.join(STRATEGIES)}")
    return STRATEGIES[method]
