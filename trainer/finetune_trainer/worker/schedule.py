"""When training ends, evaluates and logs, in optimizer steps. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from finetune_contract.run import RunConfig

LOGS_IN_A_RUN = 200


@dataclass(frozen=True)
class Schedule:
    """The steps of one job."""

    rows: int
    """Training rows."""
    batch_size: int
    total_steps: int
    total_rows: int
    """Rows that all steps together consume; the last step may be smaller than the others."""
    evaluate_every_steps: int | None
    evaluate_every_epochs: Fraction | None
    save_every_steps: int | None

    @property
    def log_every(self) -> int:
        """Steps in a log interval."""
        return max(1, self.total_steps // LOGS_IN_A_RUN)

    def rows_consumed(self, step: int) -> int:
        """Rows consumed when `step` steps are done."""
        return min(step * self.batch_size, self.total_rows)

    def epoch(self, step: int) -> float:
        """Passes over the training rows when `step` steps are done."""
        return self.rows_consumed(step) / self.rows

    def logs_at(self, step: int) -> bool:
        """Whether figures are read after this step."""
        return step == 1 or step % self.log_every == 0 or step == self.total_steps

    def evaluates_at(self, step: int) -> bool:
        """Whether validation rows are evaluated after this step: at the wished interval, and at the end."""
        if step == self.total_steps:
            return True
        if self.evaluate_every_steps is not None:
            return step % self.evaluate_every_steps == 0
        return self._periods(step) > self._periods(step - 1)

    def saves_at(self, step: int) -> bool:
        """Whether a checkpoint beside those of the evaluations is due after this step."""
        return self.save_every_steps is not None and step % self.save_every_steps == 0

    def find_next_pause(self, step: int) -> int:
        """The first step after this one that an evaluation or a checkpoint follows, or the last."""
        pauses = [self.total_steps]
        if self.save_every_steps is not None:
            pauses.append(step - step % self.save_every_steps + self.save_every_steps)
        if self.evaluate_every_steps is not None:
            pauses.append(step - step % self.evaluate_every_steps + self.evaluate_every_steps)
        elif self.evaluate_every_epochs is not None:
            rows = (self._periods(step) + 1) * self.evaluate_every_epochs * self.rows
            pauses.append(ceil(rows / self.batch_size))
        return min(pauses)

    def _periods(self, step: int) -> int:
        assert self.evaluate_every_epochs is not None
        return int(Fraction(self.rows_consumed(step), self.rows) / self.evaluate_every_epochs)


def make_schedule(run: RunConfig, rows: int) -> Schedule:
    """The schedule of a job with so many training rows."""
    resolved = run.resolved
    epochs = None if resolved.epochs is None else Fraction(str(resolved.epochs))
    by_epochs = None if epochs is None else max(1, round(epochs * rows))
    by_steps = None if resolved.max_steps is None else resolved.max_steps * resolved.batch_size
    total_rows = min(limit for limit in (by_epochs, by_steps) if limit is not None)
    every_epochs = resolved.evaluate_every_epochs
    if every_epochs is None and resolved.evaluate_every_steps is None:
        every_epochs = 1.0
    return Schedule(
        rows=rows,
        batch_size=resolved.batch_size,
        total_steps=ceil(total_rows / resolved.batch_size),
        total_rows=total_rows,
        evaluate_every_steps=resolved.evaluate_every_steps,
        evaluate_every_epochs=None if every_epochs is None else Fraction(str(every_epochs)),
        save_every_steps=run.spec.checkpoints.every_steps,
    )
