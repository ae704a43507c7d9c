"""The shortest DeepSpeed loop that does what ours does: what ours is measured against."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def iterate_bare_steps(run: Any, *, fused: bool = False) -> Iterator[int]:
    """The steps of an assembled run, with a model and an optimizer of their own.

    Batch, forward, backward, step, and the loss now and then. `fused`: one kernel for all weights, on a GPU.
    """
    import deepspeed
    import torch

    from finetune_trainer.worker.engine import make_deepspeed_config
    from finetune_trainer.worker.materials import load_model
    from finetune_trainer.worker.steps import find_rows

    materials, steps = run.materials, run.schedule.total_steps
    config = make_deepspeed_config(materials.run)
    model = load_model(materials, config)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=materials.run.resolved.learning_rate, fused=fused)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    engine, _, _, _ = deepspeed.initialize(model=model, optimizer=optimizer, lr_scheduler=schedule, config=config)
    engine.train()
    for number in range(1, steps):
        rows = find_rows(materials, run.schedule, number).tolist()
        batch = materials.parts["train"].read_batch(rows, materials.task, materials.tokenizer).to(run.ranks.device)
        loss = engine(**batch.inputs, labels=batch.targets.get("labels", batch.inputs["input_ids"])).loss
        engine.backward(loss)
        engine.step()
        if number % run.schedule.log_every == 0:
            loss.item()
        yield number
