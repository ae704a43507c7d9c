"""One optimizer step: which rows it has, and what is computed with them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from finetune_trainer.tasks.task import Batch, Task
from finetune_trainer.worker.deal import deal_rows
from finetune_trainer.worker.materials import Materials
from finetune_trainer.worker.order import Rows, order_rows
from finetune_trainer.worker.ranks import Ranks
from finetune_trainer.worker.schedule import Schedule


@dataclass(frozen=True)
class Step:
    """The work of one rank in one optimizer step; figures are those of all ranks."""

    number: int
    micro_batches: tuple[Batch, ...]
    rows: int
    targets: int
    """Real targets of the whole global batch: what its loss is divided by."""
    tokens: int
    """Input tokens of the whole global batch."""


def prepare_steps(materials: Materials, schedule: Schedule, ranks: Ranks, done: int) -> Iterator[Step]:
    """The steps after `done`, each read and padded by a thread while the one before is computed."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="rows") as reader:
        numbers = range(done + 1, schedule.total_steps + 1)
        coming = reader.submit(_prepare_step, materials, schedule, ranks, done + 1) if numbers else None
        for number in numbers:
            assert coming is not None
            step = coming.result()
            if number < schedule.total_steps:
                coming = reader.submit(_prepare_step, materials, schedule, ranks, number + 1)
            yield step


def find_rows(materials: Materials, schedule: Schedule, number: int) -> Rows:
    """The rows of a step, before they are dealt."""
    consumed = schedule.rows_consumed(number - 1)
    count = schedule.rows_consumed(number) - consumed
    return order_rows(materials.run.spec.training.seed, schedule.rows, consumed, count)


def _prepare_step(materials: Materials, schedule: Schedule, ranks: Ranks, number: int) -> Step:
    part = materials.parts["train"]
    rows = find_rows(materials, schedule, number)
    dealt = deal_rows(rows, part.lengths, ranks.rank, ranks.world_size, materials.run.resolved.micro_batch_size)
    return Step(
        number=number,
        micro_batches=tuple(part.read_batch(positions, materials.task, materials.tokenizer) for positions in dealt),
        rows=len(rows),
        targets=int(part.targets[rows].sum()),
        tokens=int(part.lengths[rows].sum()),
    )


def train_step(engine: Any, step: Step, task: Task, ranks: Ranks, label_smoothing: float) -> Tensor:
    """Compute one optimizer step and return this rank's summed loss, on the device: nothing waits for it.

    Gradients become those of the mean over all real targets of the global batch: DeepSpeed averages over the ranks,
    which the factor `world_size` undoes.
    """
    total = torch.zeros((), dtype=torch.float64, device=ranks.device)
    scale = ranks.world_size / max(1, step.targets)
    last = len(step.micro_batches) - 1
    for index, micro_batch in enumerate(step.micro_batches):
        batch = micro_batch.to(ranks.device)
        engine.set_gradient_accumulation_boundary(index == last)
        outputs = engine(**batch.inputs)
        loss = task.compute_losses(outputs, batch, label_smoothing).sum()
        if not batch.counted:
            loss = loss * 0.0
        engine.backward(loss * scale)
        total += loss.detach()
    engine.step()
    return total
