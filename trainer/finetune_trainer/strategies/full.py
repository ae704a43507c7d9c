"""Full fine-tuning: every weight is trained."""

from __future__ import annotations

from torch.nn import Module
from transformers import PreTrainedModel

from finetune_contract.spec import StrategySpec
from finetune_trainer.tasks.task import Task


def prepare(model: PreTrainedModel, spec: StrategySpec, task: Task) -> Module:
    """The model as it is, all of it trained."""
    model.requires_grad_(True)
    trained: Module = model
    return trained


def merge(model: Module) -> PreTrainedModel:
    """Nothing to merge."""
    if not isinstance(model, PreTrainedModel):
        raise TypeError(f"full fine-tuning trains a transformers model, not {type(model).__name__}")
    return model
