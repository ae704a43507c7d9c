"""What counts as time of optimizer steps, and what is told of all ranks."""

from __future__ import annotations

import time

import pytest
import torch

from finetune_trainer.worker.memory import measure_peak
from finetune_trainer.worker.meter import Meter, RankFigures
from finetune_trainer.worker.schedule import Schedule
from finetune_trainer.worker.steps import Step


def _make_meter() -> Meter:
    schedule = Schedule(
        rows=80,
        batch_size=8,
        total_steps=10,
        total_rows=80,
        evaluate_every_steps=5,
        evaluate_every_epochs=None,
        save_every_steps=None,
    )
    return Meter(schedule, flops_per_token=2.0)


def _make_step(number: int) -> Step:
    return Step(number=number, micro_batches=(), rows=8, targets=8, tokens=100)


def test_training_time_is_that_of_the_steps_without_their_wait_for_rows() -> None:
    meter = _make_meter()
    for number, wait, seconds in ((1, 3.0, 10.0), (2, 0.0, 2.0), (3, 1.5, 2.5)):
        meter.wait_for_rows(wait)
        meter.count(_make_step(number), seconds)
    logged = meter.report(3, 0.5, 1e-4)
    assert logged.progress.training_seconds == 7.0 + 2.0 + 1.0
    assert logged.data_wait_seconds == 4.5


def test_figures_of_all_ranks_are_told_as_they_were_gathered() -> None:
    meter = _make_meter()
    meter.count(_make_step(1), 1.0)
    ranks = RankFigures((0.5, 0.7), (), (10, 20))
    logged = meter.report(1, None, 1e-4, ranks, skipped_steps=2, gradient_norm=0.25)
    told = (logged.rank_seconds, logged.rank_gpu_bytes, logged.rank_host_bytes, logged.gradient_norm)
    assert told == ((0.5, 0.7), (), (10, 20), 0.25)
    assert logged.progress.skipped_steps == 2


@pytest.mark.parametrize(
    ("step", "seconds_to_save", "quiet_seconds"),
    [(3, 60.0, 2 * 2.0), (3, 1.5, 1.5), (5, 60.0, 5 * 2.0), (3, -1.0, 0.0)],
)
def test_quiet_lasts_until_the_next_evaluation_or_save(step: int, seconds_to_save: float, quiet_seconds: float) -> None:
    meter = _make_meter()
    assert meter.report(1, None, 1e-4).quiet_until is None, "no step has been timed"
    for number, seconds in ((1, 9.0), (2, 1.5), (3, 2.5)):
        meter.count(_make_step(number), seconds)
    before = time.time()
    quiet_until = meter.report(step, None, 1e-4, seconds_to_save=seconds_to_save).quiet_until
    assert quiet_until is not None
    assert before <= quiet_until - quiet_seconds <= time.time()


def test_the_peak_of_the_resident_set_holds_what_was_touched() -> None:
    before = measure_peak(torch.device("cpu"))
    touched = torch.ones(before.host // 4 + 16_000_000, dtype=torch.float32)
    after = measure_peak(torch.device("cpu"))
    assert after.host >= touched.numel() * 4
    assert after.gpu == 0
