"""What a worker trains with: task, strategy, tokenizer, model and rows, read from folders that the agent fetched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch.nn import Module
from transformers import PreTrainedModel
from transformers.integrations import HfDeepSpeedConfig

from finetune_contract.run import RunConfig
from finetune_contract.spec import TrainingSpec
from finetune_trainer.data.prepared import PreparedData, read_prepared
from finetune_trainer.messages import WorkerTask
from finetune_trainer.strategies.strategy import Strategy, find_strategy
from finetune_trainer.tasks.loading import load_tokenizer
from finetune_trainer.tasks.metric_names import check_metrics
from finetune_trainer.tasks.registry import find_task
from finetune_trainer.tasks.task import Task, Tokenizer
from finetune_trainer.worker.parts import Part, load_parts
from finetune_trainer.worker.randomness import seed_everything

DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Materials:
    """Everything about the job but the model."""

    run: RunConfig
    task: Task
    strategy: Strategy
    tokenizer: Tokenizer
    prepared: PreparedData
    parts: dict[str, Part]
    model_dir: Path

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the model's ids."""
        return self.prepared.summary.labels


def load_materials(task: WorkerTask) -> Materials:
    """Read tokenizer and rows. Raises `UserError` for a metric that the task does not compute."""
    spec = task.run.spec
    materials = Materials(
        run=task.run,
        task=find_task(spec.task),
        strategy=find_strategy(spec.strategy.method),
        tokenizer=load_tokenizer(Path(task.model_dir)),
        prepared=read_prepared(Path(task.data_dir)),
        parts=load_parts(Path(task.data_dir)),
        model_dir=Path(task.model_dir),
    )
    check_metrics(task.run, materials.labels)
    return materials


def load_model(materials: Materials, deepspeed_config: dict[str, Any]) -> Module:
    """The model that the strategy trains, equal on every rank; at ZeRO stage 3 it is partitioned while it is read."""
    training = materials.run.spec.training
    seed_everything(training.seed)
    with _partition_while_reading(deepspeed_config, materials.run.resolved.zero_stage):
        model = read_model(materials, DTYPES[materials.run.resolved.precision])
        _prepare_for_training(model, training)
        return materials.strategy.prepare(model, materials.run.spec.strategy, materials.task)


def _prepare_for_training(model: PreTrainedModel, training: TrainingSpec) -> None:
    if training.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if getattr(model.config, "use_cache", False):
        # Keys and values of past tokens are for generation; in training they only cost memory.
        model.config.use_cache = False


@contextmanager
def _partition_while_reading(deepspeed_config: dict[str, Any], zero_stage: int) -> Iterator[None]:
    # transformers and PEFT ask for this object, as long as it lives, whether weights are partitioned.
    partitioning = HfDeepSpeedConfig(deepspeed_config) if zero_stage == 3 else None
    try:
        yield
    finally:
        del partitioning


def read_model(materials: Materials, dtype: torch.dtype) -> PreTrainedModel:
    """The pre-trained model with the task's head."""
    model = materials.task.load_model(materials.model_dir, materials.labels, dtype)
    if getattr(model.config, "pad_token_id", None) is None:
        model.config.pad_token_id = materials.tokenizer.pad_token_id
    return model
