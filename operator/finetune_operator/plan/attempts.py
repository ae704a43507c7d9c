"""`status.attempts[]`: begun, closed once, folded away; and what the list says of lost steps. Pure over the status.

Must not know pods or agents: members.py and attempt_end.py say when an attempt is over, start.py when one begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from finetune_contract.progress import Failure
from finetune_contract.spec import FineTuneJobSpec
from finetune_contract.status import AttemptStatus, FineTuneJobStatus
from finetune_operator.plan.times import format_time
from finetune_operator.plan.usage import fold_attempts

LIMIT: Final = 20
"""Entries that the status holds; older ones are folded into sums."""


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt ended."""

    result: Literal["Finished", "Stopped", "Failed"]
    reason: str
    failure: Failure | None = None
    last_step: int = 0
    """Last optimizer step that any member told of."""
    training_seconds: float = 0.0
    """Seconds that its optimizer steps took, as far as any member told."""
    was_heard: bool = True
    """False: the last step is known, but not from where the attempt began."""


def find_attempt(status: FineTuneJobStatus) -> AttemptStatus | None:
    """The attempt under way."""
    last = status.attempts[-1] if status.attempts else None
    return last if last is not None and last.end_time is None else None


def find_last_number(status: FineTuneJobStatus) -> int:
    """Number of the last attempt; 0 before the first."""
    return status.attempts[-1].number if status.attempts else 0


def begin_attempt(
    status: FineTuneJobStatus,
    members: Mapping[int, str],
    micro_batch_size: int | None,
    spec: FineTuneJobSpec,
    now: float,
) -> FineTuneJobStatus:
    """The status with the next attempt under way; `members`: node index -> pod name."""
    started = [attempt for attempt in status.attempts if attempt.nodes]
    is_restart = bool(started) or status.attempts_folded is not None
    attempt = AttemptStatus(
        number=find_last_number(status) + 1,
        start_time=format_time(now),
        nodes=len(members),
        micro_batch_size=micro_batch_size,
        members={str(index): name for index, name in members.items()},
    )
    facts = {
        "start_time": status.start_time or attempt.start_time,
        "restarts": status.restarts + int(is_restart),
        "retry_time": None,
    }
    return _append(status.model_copy(update=facts), attempt, spec)


def stop_attempt(status: FineTuneJobStatus, reason: str, now: float) -> FineTuneJobStatus:
    """The status in which the attempt under way is asked to stop; a stop that was asked for before stands."""
    attempt = find_attempt(status)
    if attempt is None or attempt.stop_time is not None:
        return status
    return _replace_last(status, attempt.model_copy(update={"reason": reason, "stop_time": format_time(now)}))


def close_attempt(status: FineTuneJobStatus, end: AttemptEnd, now: float) -> FineTuneJobStatus:
    """The status in which the attempt under way has ended, if there is one.

    Its last step settles what former attempts lost only if the attempt itself was heard of.
    """
    attempt = find_attempt(status)
    if attempt is None:
        return status
    facts: dict[str, Any] = {
        "end_time": format_time(now),
        "result": end.result,
        "reason": end.reason,
        "failure": end.failure,
        "last_step": max(attempt.last_step, end.last_step),
        "training_seconds": max(attempt.training_seconds, round(end.training_seconds, 3)),
        "members": {},
    }
    status = _replace_last(status, attempt.model_copy(update=facts))
    return settle_steps(status) if end.was_heard else status


def record_failure(
    status: FineTuneJobStatus, failure: Failure, micro_batch_size: int | None, spec: FineTuneJobSpec, now: float
) -> FineTuneJobStatus:
    """The status with what failed between two attempts, as an attempt without members."""
    moment = format_time(now)
    attempt = AttemptStatus(
        number=find_last_number(status) + 1,
        start_time=moment,
        end_time=moment,
        result="Failed",
        reason=failure.reason,
        micro_batch_size=micro_batch_size,
        failure=failure,
    )
    return _append(status, attempt, spec)


def note_steps(
    status: FineTuneJobStatus, *, resumed_from: int | None, last_step: int, training_seconds: float = 0.0
) -> FineTuneJobStatus:
    """The status with what is known of the attempt under way: where it began, how far it came, what that took."""
    attempt = find_attempt(status)
    if attempt is None:
        return status
    begun = resumed_from or attempt.from_step
    facts = {
        "from_step": begun,
        "last_step": max(attempt.last_step, last_step, begun),
        "training_seconds": max(attempt.training_seconds, round(training_seconds, 3)),
    }
    return settle_steps(_replace_last(status, attempt.model_copy(update=facts)))


def settle_steps(status: FineTuneJobStatus) -> FineTuneJobStatus:
    """The status with the lost steps of each attempt: what it did beyond the step from which the next one trained."""
    attempts: list[AttemptStatus] = []
    resumed: int | None = None
    for attempt in reversed(status.attempts):
        lost = attempt.lost_steps
        if attempt.end_time is not None and resumed is not None:
            lost = max(0, attempt.last_step - resumed)
        attempts.insert(0, attempt.model_copy(update={"lost_steps": lost}))
        if attempt.last_step > 0:
            # Without a step it is not known where it would have begun.
            resumed = attempt.from_step
    folded = status.attempts_folded.lost_steps if status.attempts_folded else 0
    lost_steps = folded + sum(attempt.lost_steps for attempt in attempts)
    usage = status.usage.model_copy(update={"lost_steps": lost_steps})
    return status.model_copy(update={"attempts": tuple(attempts), "usage": usage})


def _append(status: FineTuneJobStatus, attempt: AttemptStatus, spec: FineTuneJobSpec) -> FineTuneJobStatus:
    attempts = (*status.attempts, attempt)
    folded = fold_attempts(status.attempts_folded, attempts, len(attempts) - LIMIT, spec)
    return status.model_copy(update={"attempts": attempts[-LIMIT:], "attempts_folded": folded})


def _replace_last(status: FineTuneJobStatus, attempt: AttemptStatus) -> FineTuneJobStatus:
    return status.model_copy(update={"attempts": (*status.attempts[:-1], attempt)})
