"""DeepSpeed's engine: its configuration from the job, the optimizer and the learning rate.

The loop owns the boundary of a step and divides the loss itself, so DeepSpeed's batch fields are nominal ones.
"""

from __future__ import annotations

from typing import Any, Final

import deepspeed
import torch
from torch.nn import Module, Parameter
from transformers import get_scheduler

from finetune_contract.run import RunConfig
from finetune_contract.spec import TrainingSpec
from finetune_trainer.worker.ranks import Ranks
from finetune_trainer.worker.schedule import Schedule

OWNED: Final = ("train_batch_size", "optimizer", "scheduler")
"""DeepSpeed's keys that the loop itself stands for."""


def make_deepspeed_config(run: RunConfig) -> dict[str, Any]:
    """DeepSpeed's configuration: the user's keys, under ours. Pure."""
    training, resolved = run.spec.training, run.resolved
    offload = training.deepspeed.offload
    zero: dict[str, Any] = {"stage": resolved.zero_stage}
    if offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": resolved.device == "cuda"}
    if offload == "parameters":
        zero["offload_param"] = {"device": "cpu", "pin_memory": resolved.device == "cuda"}
    users = {key: value for key, value in (training.deepspeed.config or {}).items() if key not in OWNED}
    return {
        **users,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "zero_optimization": {**users.get("zero_optimization", {}), **zero},
        "gradient_clipping": training.max_grad_norm,
        "bf16": {**users.get("bf16", {}), "enabled": resolved.precision == "bf16"},
        "fp16": {**users.get("fp16", {}), "enabled": resolved.precision == "fp16"},
        "checkpoint": {**users.get("checkpoint", {}), "use_node_local_storage": True},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }


def make_engine(model: Module, run: RunConfig, schedule: Schedule, ranks: Ranks, config: dict[str, Any]) -> Any:
    """The DeepSpeed engine around the model, with AdamW and the job's learning rate."""
    training = run.spec.training
    optimizer = torch.optim.AdamW(
        group_parameters(model, training.weight_decay),
        lr=run.resolved.learning_rate,
        fused=ranks.device.type == "cuda" and training.deepspeed.offload == "none",
    )
    if leaves_gradients_alone(run):
        # The loop measures their norm anyway, and clips by it: DeepSpeed would measure it once more.
        config = {**config, "gradient_clipping": 0.0}
    engine, _, _, _ = deepspeed.initialize(
        model=model, optimizer=optimizer, lr_scheduler=make_scheduler(optimizer, training, schedule), config=config
    )
    return engine


def leaves_gradients_alone(run: RunConfig) -> bool:
    """Whether DeepSpeed takes torch's optimizer as it is, which looks at no gradients: fp32 at ZeRO 0.

    Known before the engine is made; of a made engine steps.measure_gradients sees the same.
    """
    return run.resolved.precision == "fp32" and run.resolved.zero_stage == 0


def make_scheduler(optimizer: torch.optim.Optimizer, training: TrainingSpec, schedule: Schedule) -> Any:
    """Learning rate over the steps, by transformers."""
    return get_scheduler(
        training.lr_scheduler,
        optimizer,
        num_warmup_steps=round(training.warmup_ratio * schedule.total_steps),
        num_training_steps=schedule.total_steps,
    )


def group_parameters(model: Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trained parameters in two groups: with weight decay, and without it (biases, weights of normalisations)."""
    decayed: list[Parameter] = []
    plain: list[Parameter] = []
    seen = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            is_plain = name.endswith("bias") or "norm" in type(module).__name__.lower()
            (plain if is_plain else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
