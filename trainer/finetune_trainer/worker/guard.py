"""Watches the losses of training by failurePolicy.numeric; what is wrong with one is judged in numeric.py.

fail, rollback   losses stay on the device and are read at a log point and before every checkpoint, so that no
                 checkpoint holds what came after a loss that is not a number
skip             the loss of every step is read before its update is made: one small all-reduce of the hosts and one
                 wait for the device a step, which is why it is not the default
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from finetune_contract.spec.lifecycle import FailurePolicySpec
from finetune_trainer.data.prepared import COLUMN_ROW
from finetune_trainer.messages import Warned
from finetune_trainer.worker.deal import deal_rows
from finetune_trainer.worker.link import AgentLink
from finetune_trainer.worker.materials import Materials
from finetune_trainer.worker.numeric import (
    Place,
    Trouble,
    describe_trouble,
    find_trouble,
    find_worst,
    make_error,
    remember,
)
from finetune_trainer.worker.ranks import Ranks
from finetune_trainer.worker.schedule import Schedule
from finetune_trainer.worker.state import TrainerState
from finetune_trainer.worker.steps import Step, StepResult, find_rows


@dataclass
class Guard:
    """What has been computed and not been read, and what the log interval has come to."""

    materials: Materials
    schedule: Schedule
    ranks: Ranks
    link: AgentLink
    _unread: list[tuple[Step, StepResult]] = field(default_factory=list)
    _loss_sum: float = 0.0
    _targets: int = 0
    _last_mean: float | None = None
    _refused: Trouble | None = None
    gradient_norm: Tensor | None = None
    """Of the newest step, where DeepSpeed's optimizer does not keep it."""

    @property
    def policy(self) -> FailurePolicySpec:
        """The job's failurePolicy."""
        return self.materials.run.spec.failure_policy

    @property
    def skips(self) -> bool:
        """Whether every step's loss is looked at before its update."""
        return self.policy.numeric == "skip"

    def refuses(self, step: Step, losses: Tensor, recent: tuple[float, ...]) -> bool:
        """Whether no update shall be made from these losses (float64 [micro-batches]). A collective."""
        (total,) = self.ranks.sum([float(losses.sum())])
        self._refused = self._judge(step, total, True, recent)
        return self._refused is not None

    def take(self, step: Step, result: StepResult, state: TrainerState) -> TrainerState:
        """Take a step that has been computed. Raises `NumericError` at once where its gradients were no good."""
        self._unread.append((step, result))
        self.gradient_norm = result.gradient_norm
        return self.read(state) if self.skips or result.rejected else state

    def read(self, state: TrainerState) -> TrainerState:
        """Read and judge what has not been read; the state knows the last losses then. A collective.

        Raises `NumericError` for the first step that nothing can be learnt from; under skip it is passed over, until
        numericBudget is used up.
        """
        if not self._unread:
            return state
        unread, self._unread = self._unread, []
        own = torch.stack([result.losses.sum() for _, result in unread] + [_norm_of(result) for _, result in unread])
        summed = self.ranks.sum(own.tolist())
        for (step, result), total, norm in zip(unread, summed, summed[len(unread) :], strict=False):
            finite = bool(torch.isfinite(torch.tensor(norm))) and not result.rejected
            trouble = self._refused or self._judge(step, total, finite, state.recent_losses)
            self._refused = None
            if trouble is not None:
                state = self._act(trouble, step, result, state)
                continue
            self._loss_sum, self._targets = self._loss_sum + total, self._targets + step.targets
            state = state.model_copy(
                update={"recent_losses": remember(state.recent_losses, total / max(1, step.targets))}
            )
        return state

    def take_mean(self) -> float | None:
        """Mean loss over the targets since the last call; the one before where no step counted."""
        if self._targets:
            self._last_mean = self._loss_sum / self._targets
        self._loss_sum, self._targets = 0.0, 0
        return self._last_mean

    def _judge(self, step: Step, total: float, finite: bool, recent: tuple[float, ...]) -> Trouble | None:
        loss = total / max(1, step.targets)
        return find_trouble(step.number, loss, finite, recent, self.policy.loss_spike_factor)

    def _act(self, trouble: Trouble, step: Step, result: StepResult, state: TrainerState) -> TrainerState:
        place = self._locate(trouble, result)
        skipped = (*state.skipped_steps, step.number)
        if not self.skips or len(skipped) > self.policy.numeric_budget:
            raise make_error(trouble, place, self.policy, len(state.skipped_steps))
        if self.ranks.is_first:
            words = describe_trouble(trouble, place, self.policy)
            self.link.send(Warned(message=f"{words}; the step was passed over (failurePolicy.numeric: skip)"))
        return state.model_copy(update={"skipped_steps": skipped})

    def _locate(self, trouble: Trouble, result: StepResult) -> Place:
        """The rank and micro-batch that the trouble came from. A collective."""
        positions = find_rows(self.materials, self.schedule, trouble.step)
        samples = tuple(positions.tolist())
        worst = self.ranks.gather(find_worst(result.losses.tolist()))
        if trouble.kind == "gradients":
            return Place(samples)
        rank, _ = find_worst([loss for _, loss in worst])
        micro_batch = worst[rank][0]
        part, micro_batch_size = self.materials.parts["train"], self.materials.run.resolved.micro_batch_size
        dealt = deal_rows(positions, part.lengths, rank, self.ranks.world_size, micro_batch_size)[micro_batch]
        rows = tuple(sorted(part.table[dealt][COLUMN_ROW])) if dealt else ()
        return Place(samples, rank, micro_batch, rows)


def _norm_of(result: StepResult) -> Tensor:
    norm = result.gradient_norm
    return torch.zeros_like(result.losses[0]) if norm is None else norm.to(result.losses.dtype)
