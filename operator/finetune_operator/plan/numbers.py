"""The figures of the status that move with every step, and how often they may cost a write."""

from __future__ import annotations

from typing import Final

from finetune_contract.progress import Progress
from finetune_contract.spec import FineTuneJobSpec
from finetune_contract.status import FineTuneJobStatus, ProgressStatus, UsageStatus
from finetune_operator.plan.attempt_end import count_steps, measure_training
from finetune_operator.plan.attempts import find_attempt, note_steps
from finetune_operator.plan.times import format_time, parse_time
from finetune_operator.plan.usage import count_usage

INTERVAL_SECONDS: Final = 15.0
"""Progress alone is written at most this often."""


def wait_for_numbers(status: FineTuneJobStatus, now: float) -> float:
    """Seconds until figures alone may be written again; 0: now."""
    progress = status.progress
    if progress is None or progress.updated_time is None:
        return 0.0
    return max(0.0, parse_time(progress.updated_time) + INTERVAL_SECONDS - now)


def refresh_numbers(
    status: FineTuneJobStatus, heard: Progress | None, spec: FineTuneJobSpec, now: float
) -> FineTuneJobStatus:
    """The status with the newest figures of the first node; unchanged where they are, or where it did not answer."""
    if heard is None or find_attempt(status) is None:
        return status
    status = note_steps(
        status,
        resumed_from=heard.resumed_from,
        last_step=count_steps(heard),
        training_seconds=measure_training(heard),
    )
    figures = _make_progress(heard, now)
    if status.progress is not None and _without_time(figures) == _without_time(status.progress):
        return status
    return count_usage(status.model_copy(update={"progress": figures}), spec, now)


def are_numbers_alone(before: FineTuneJobStatus, after: FineTuneJobStatus) -> bool:
    """Only figures moved, from which nothing follows but that they are told."""
    return _without_numbers(before) == _without_numbers(after)


def note_first_step(status: FineTuneJobStatus, heard: Progress | None, created: float) -> FineTuneJobStatus:
    """The status with the time from the job's creation to its first step, once known."""
    usage = status.usage
    if usage.time_to_first_step_seconds is not None or heard is None or heard.step.first_step_at is None:
        return status
    seconds = round(max(0.0, heard.step.first_step_at - created), 3)
    return status.model_copy(update={"usage": usage.model_copy(update={"time_to_first_step_seconds": seconds})})


def _make_progress(heard: Progress, now: float) -> ProgressStatus:
    step = heard.step
    percent = round(100.0 * min(step.step, step.total_steps) / step.total_steps, 1) if step.total_steps else 0.0
    return ProgressStatus.model_validate(
        step.model_dump() | {"percent": percent, "metrics": dict(heard.metrics), "updated_time": format_time(now)}
    )


def _without_numbers(status: FineTuneJobStatus) -> FineTuneJobStatus:
    attempts = tuple(
        attempt.model_copy(update={"last_step": 0, "training_seconds": 0.0}) if attempt.end_time is None else attempt
        for attempt in status.attempts
    )
    return status.model_copy(update={"progress": None, "usage": UsageStatus(), "attempts": attempts})


def _without_time(progress: ProgressStatus) -> ProgressStatus:
    return progress.model_copy(update={"updated_time": None})
