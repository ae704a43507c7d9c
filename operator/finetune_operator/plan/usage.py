"""`status.usage`: what the job has used and what it got for it, over all attempts. Pure over the status.

The definitions stand in docs/reference/metrics.md. Derived from the attempts each time, never incremented.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from finetune_contract.spec import FineTuneJobSpec
from finetune_contract.status import AttemptsFolded, AttemptStatus, EndedAttempts, FineTuneJobStatus
from finetune_operator.plan.failure import is_counted
from finetune_operator.plan.times import parse_time

NO_REASON = "Unknown"
"""Of an attempt that ended without one."""


def count_usage(status: FineTuneJobStatus, spec: FineTuneJobSpec, now: float) -> FineTuneJobStatus:
    """The status with what was used up to `now`."""
    folded = status.attempts_folded or AttemptsFolded()
    held = folded.held_seconds + sum(_measure_held(attempt, now) for attempt in status.attempts)
    training = folded.training_seconds + sum(attempt.training_seconds for attempt in status.attempts)
    lost = folded.lost_seconds + sum(measure_lost_seconds(status.attempts))
    facts = {
        "gpu_seconds": count_gpu_seconds(status, spec, now),
        "held_seconds": held,
        "training_seconds": round(training, 3),
        "lost_seconds": round(lost, 3),
        # Workers' clocks are not ours: what they measured may be a little more than what we saw pass.
        "goodput": round(min(1.0, (training - lost) / held), 4) if held > 0 else None,
    }
    return status.model_copy(update={"usage": status.usage.model_copy(update=facts)})


def count_gpu_seconds(status: FineTuneJobStatus, spec: FineTuneJobSpec, now: float) -> float:
    """GPUs x seconds over all attempts; an attempt under way counts to `now`."""
    folded = status.attempts_folded.gpu_seconds if status.attempts_folded else 0.0
    return folded + sum(_measure_gpu_seconds(attempt, spec, now) for attempt in status.attempts)


def measure_lost_seconds(attempts: Sequence[AttemptStatus]) -> list[float]:
    """Of each attempt's training time, the share of its steps that a later attempt began before."""
    seconds: list[float] = []
    floor: int | None = None
    for attempt in reversed(attempts):
        done = attempt.last_step - attempt.from_step
        kept = done if floor is None else max(0, min(attempt.last_step, floor) - attempt.from_step)
        seconds.insert(0, attempt.training_seconds * (1.0 - kept / done) if done > 0 else 0.0)
        if attempt.last_step > 0 and (attempt.from_step > 0 or attempt.training_seconds > 0):
            # Of an attempt without a step, or of which only the end was heard, it is not known where it began.
            floor = attempt.from_step if floor is None else min(floor, attempt.from_step)
    return seconds


def fold_attempts(
    folded: AttemptsFolded | None, attempts: Sequence[AttemptStatus], count: int, spec: FineTuneJobSpec
) -> AttemptsFolded | None:
    """The sums with the oldest `count` of the attempts; what later ones lost of their steps is settled by now."""
    lost = measure_lost_seconds(attempts)
    for oldest, seconds in zip(attempts[: max(0, count)], lost, strict=False):
        folded = _fold(folded or AttemptsFolded(), oldest, seconds, spec)
    return folded


def _fold(folded: AttemptsFolded, oldest: AttemptStatus, lost_seconds: float, spec: FineTuneJobSpec) -> AttemptsFolded:
    closed = parse_time(oldest.start_time)
    return AttemptsFolded(
        count=folded.count + 1,
        lost_steps=folded.lost_steps + oldest.lost_steps,
        gpu_seconds=folded.gpu_seconds + _measure_gpu_seconds(oldest, spec, closed),
        held_seconds=folded.held_seconds + _measure_held(oldest, closed),
        training_seconds=round(folded.training_seconds + oldest.training_seconds, 3),
        lost_seconds=round(folded.lost_seconds + lost_seconds, 3),
        ended=_add_ended(folded.ended, [oldest]),
        counted_failures=folded.counted_failures + int(is_counted(oldest)),
    )


def _add_ended(known: Sequence[EndedAttempts], attempts: Sequence[AttemptStatus]) -> tuple[EndedAttempts, ...]:
    counts = Counter({(each.result, each.reason): each.count for each in known})
    counts.update((attempt.result, attempt.reason or NO_REASON) for attempt in attempts)
    return tuple(
        EndedAttempts(result=result, reason=reason, count=count) for (result, reason), count in sorted(counts.items())
    )


def _measure_gpu_seconds(attempt: AttemptStatus, spec: FineTuneJobSpec, now: float) -> float:
    return _measure_held(attempt, now) * attempt.nodes * spec.resources.gpus_per_node


def _measure_held(attempt: AttemptStatus, now: float) -> float:
    end = parse_time(attempt.end_time) if attempt.end_time else int(now)
    return max(0.0, end - parse_time(attempt.start_time))
