"""Speed of an attempt, from its own steps only: seconds a step, tokens a second, waiting, time left."""

from __future__ import annotations

import math
import time
from collections import deque
from statistics import median
from typing import NamedTuple

from finetune_contract.progress import StepProgress
from finetune_trainer.messages import Logged
from finetune_trainer.worker.own_time import OwnTime
from finetune_trainer.worker.schedule import Schedule
from finetune_trainer.worker.steps import Step

STEPS_REMEMBERED = 50


class RankFigures(NamedTuple):
    """What was gathered of all ranks, each in the order of ranks."""

    seconds: tuple[float, ...] = ()
    """Own seconds a step."""
    gpu_bytes: tuple[int, ...] = ()
    """Peak of the GPU memory; empty without GPUs."""
    host_bytes: tuple[int, ...] = ()
    """Peak of the resident set."""


NOTHING_KNOWN = RankFigures()


class Meter:
    """Counts what the steps of this attempt took."""

    def __init__(self, schedule: Schedule, flops_per_token: float) -> None:
        self._schedule = schedule
        self._flops_per_token = flops_per_token
        self._seconds: deque[float] = deque(maxlen=STEPS_REMEMBERED)
        self._tokens: deque[int] = deque(maxlen=STEPS_REMEMBERED)
        self._tokens_total = 0
        self._samples_total = 0
        self._first_step_at: float | None = None
        self._data_wait_seconds = self._last_wait_seconds = 0.0
        self._training_seconds = 0.0
        self.save_stall_seconds = 0.0
        self.own_time = OwnTime()
        self._own_steps = 0

    @property
    def step_seconds(self) -> float | None:
        """Median seconds of the last steps; None before the second one."""
        return median(self._seconds) if self._seconds else None

    def wait_for_rows(self, seconds: float) -> None:
        """A step has waited so long for its rows."""
        self._data_wait_seconds += seconds
        self._last_wait_seconds = seconds
        self.own_time.add(seconds)

    def take_own_seconds(self) -> float:
        """Own seconds a step of this rank since the last call."""
        steps, self._own_steps = self._own_steps, 0
        return self.own_time.take(steps)

    def count(self, step: Step, seconds: float) -> None:
        """One step that took so many seconds, with the wait for its rows."""
        self._own_steps += 1
        self._training_seconds += max(0.0, seconds - self._last_wait_seconds)
        if self._first_step_at is None:
            # The first step also pays for start-up and says nothing of the others.
            self._first_step_at = time.time()
        else:
            self._seconds.append(seconds)
            self._tokens.append(step.tokens)
        self._tokens_total += step.tokens
        self._samples_total += step.rows

    def report(
        self,
        step: int,
        loss: float | None,
        learning_rate: float,
        ranks: RankFigures = NOTHING_KNOWN,
        *,
        skipped_steps: int = 0,
        gradient_norm: float | None = None,
        seconds_to_save: float = math.inf,
    ) -> Logged:
        """The figures of a log interval. `seconds_to_save`: until a checkpoint is due by time."""
        busy = sum(self._seconds)
        tokens_per_second = sum(self._tokens) / busy if busy else None
        mean = busy / len(self._seconds) if self._seconds else None
        left = self._schedule.total_steps - step
        return Logged(
            progress=StepProgress(
                step=step,
                total_steps=self._schedule.total_steps,
                epoch=self._schedule.epoch(step),
                loss=loss,
                learning_rate=learning_rate,
                tokens_per_second=tokens_per_second,
                step_seconds=self.step_seconds,
                eta_seconds=mean * left if mean is not None else None,
                training_seconds=self._training_seconds,
                first_step_at=self._first_step_at,
                skipped_steps=skipped_steps,
            ),
            tokens_total=self._tokens_total,
            samples_total=self._samples_total,
            data_wait_seconds=self._data_wait_seconds,
            save_stall_seconds=self.save_stall_seconds,
            flops_per_second=self._flops_per_token * tokens_per_second if tokens_per_second else None,
            gradient_norm=gradient_norm,
            rank_seconds=ranks.seconds,
            rank_gpu_bytes=ranks.gpu_bytes,
            rank_host_bytes=ranks.host_bytes,
            quiet_until=None if mean is None else self._foresee(step, mean, seconds_to_save),
        )

    def _foresee(self, step: int, step_seconds: float, seconds_to_save: float) -> float:
        """When something but steps will happen, if they take so long."""
        seconds = (self._schedule.find_next_pause(step) - step) * step_seconds
        return time.time() + max(0.0, min(seconds, seconds_to_save))
