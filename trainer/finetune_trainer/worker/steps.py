"""One optimizer step: which rows it has, and what is computed with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from finetune_trainer.marks import Marker
from finetune_trainer.tasks.task import Batch, Task
from finetune_trainer.worker.deal import deal_rows
from finetune_trainer.worker.materials import Materials
from finetune_trainer.worker.order import Rows, order_rows
from finetune_trainer.worker.own_time import OwnTime
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


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step came to on this rank. Nothing has waited for the device yet."""

    losses: Tensor
    """Summed loss of each micro-batch, float64 [micro-batches]."""
    gradient_norm: Tensor | None
    """Norm of all ranks' gradients, where DeepSpeed's optimizer does not look at it itself."""
    rejected: bool
    """No update was made: the gradients were not finite, or the losses were refused."""


def prepare_steps(
    materials: Materials, schedule: Schedule, ranks: Ranks, done: int, passed_over: Set[int] = frozenset()
) -> Iterator[Step]:
    """The steps after `done`, each read and padded by a thread while the one before is computed.

    Steps of `passed_over` consume their rows and have no micro-batches.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="rows") as reader:

        def submit(number: int) -> Future[Step]:
            return reader.submit(_prepare_step, materials, schedule, ranks, number, number in passed_over)

        numbers = range(done + 1, schedule.total_steps + 1)
        coming = submit(done + 1) if numbers else None
        for number in numbers:
            assert coming is not None
            step = coming.result()
            if number < schedule.total_steps:
                coming = submit(number + 1)
            yield step


def find_rows(materials: Materials, schedule: Schedule, number: int) -> Rows:
    """The rows of a step, before they are dealt."""
    consumed = schedule.rows_consumed(number - 1)
    count = schedule.rows_consumed(number) - consumed
    return order_rows(materials.run.spec.training.seed, schedule.rows, consumed, count)


def _prepare_step(materials: Materials, schedule: Schedule, ranks: Ranks, number: int, passed_over: bool) -> Step:
    part = materials.parts["train"]
    rows = find_rows(materials, schedule, number)
    dealt = deal_rows(rows, part.lengths, ranks.rank, ranks.world_size, materials.run.resolved.micro_batch_size)
    chosen = [] if passed_over else dealt
    return Step(
        number=number,
        micro_batches=tuple(part.read_batch(positions, materials.task, materials.tokenizer) for positions in chosen),
        rows=len(rows),
        targets=int(part.targets[rows].sum()),
        tokens=int(part.lengths[rows].sum()),
    )


def train_step(
    engine: Any,
    step: Step,
    task: Task,
    ranks: Ranks,
    *,
    label_smoothing: float,
    max_grad_norm: float,
    marker: Marker,
    own_time: OwnTime,
    refuses: Callable[[Tensor], bool] | None = None,
) -> StepResult:
    """Compute one optimizer step; nothing waits for the device, unless `refuses` does.

    Gradients become those of the mean over all real targets of the global batch: DeepSpeed averages over the ranks,
    which the factor `world_size` undoes. `refuses` is asked, once every micro-batch has its loss, whether the update
    shall be left out; step count and learning rate go on then. Where DeepSpeed's optimizer does not look at the
    gradients itself, their norm is measured here, and clipped to `max_grad_norm` (0: not at all).
    """
    scale = ranks.world_size / max(1, step.targets)
    last = len(step.micro_batches) - 1
    losses: list[Tensor] = []
    refused = False
    for index, micro_batch in enumerate(step.micro_batches):
        batch = micro_batch.to(ranks.device)
        engine.set_gradient_accumulation_boundary(index == last)
        marker.enter("forward", step.number)
        with own_time.measure(ranks.device):
            outputs = engine(**batch.inputs)
            loss = task.compute_losses(outputs, batch, label_smoothing).sum()
        if not batch.counted:
            loss = loss * 0.0
        losses.append(loss.detach().double())
        if index == last and refuses is not None and refuses(torch.stack(losses)):
            # DeepSpeed drops the gradients of all micro-batches by itself when some are not finite.
            refused, loss = True, loss * math.nan
        marker.enter("backward")
        engine.backward(loss * scale)
    marker.enter("update")
    norm = measure_gradients(engine)
    if refuses is not None and norm is not None and not math.isfinite(norm):
        rejected = _leave_out(engine)
    else:
        rejected = _update(engine, norm, max_grad_norm, refused)
    return StepResult(losses=torch.stack(losses), gradient_norm=norm, rejected=rejected)


def pass_over(engine: Any) -> None:
    """A step without an update: step count and learning rate go on."""
    engine.global_steps += 1
    engine.skipped_steps += 1
    engine.lr_scheduler.step()


def measure_gradients(engine: Any) -> Tensor | None:
    """Norm of the averaged gradients, on the device; None where the optimizer checks them (all but fp32 at ZeRO 0)."""
    if hasattr(engine.optimizer, "overflow"):
        return None
    gradients = [weight.grad for weight in engine.module.parameters() if weight.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


def _leave_out(engine: Any) -> bool:
    engine.zero_grad()
    pass_over(engine)
    return True


def _update(engine: Any, norm: Tensor | None, max_grad_norm: float, refused: bool) -> bool:
    """Let DeepSpeed make the update; whether it was left out. `norm`: its optimizer does not look at the gradients."""
    if norm is not None and max_grad_norm > 0:
        torch.nn.utils.clip_grads_with_norm_(engine.module.parameters(), max_grad_norm, norm)
    engine.step()
    if engine.was_step_applied():
        return False
    if engine.fp16_enabled() and not refused:
        # How fp16 finds its loss scale: nothing is wrong with the rows.
        return False
    engine.lr_scheduler.step()
    return True
