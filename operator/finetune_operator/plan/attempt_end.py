"""How the attempt under way has ended, from what its members tell and which of them are lost; None while it goes on.

A failure that may be the consequence of another is held back for its cause; a loss while the attempt is being
stopped is held back for what the others tell.
"""

from __future__ import annotations

from typing import Final, Literal

from finetune_contract import names
from finetune_contract.names import Reason
from finetune_contract.progress import Failure, Progress
from finetune_contract.status import AttemptStatus, FineTuneJobStatus
from finetune_operator.plan.attempts import AttemptEnd, find_attempt, find_last_number
from finetune_operator.plan.conditions import is_true
from finetune_operator.plan.failure import choose_cause, is_secondary
from finetune_operator.plan.members import (
    SILENCE_SECONDS,
    Member,
    describe_ended_pod,
    find_last_word,
    find_loss,
    list_members,
    list_silences,
)
from finetune_operator.plan.times import parse_time
from finetune_operator.snapshot import Pod, Snapshot

PEER_LOST_PATIENCE_SECONDS: Final = 15.0
"""A victim often speaks before the rank that failed; the cause is awaited this long."""


def find_end(snapshot: Snapshot, status: FineTuneJobStatus, stop_grace: float, now: float) -> AttemptEnd | None:
    """How the attempt under way has ended; `stop_grace`: seconds that a stop may take."""
    attempt = find_attempt(status)
    if attempt is None:
        return None
    members = list_members(snapshot, attempt)
    failure = _find_failure(snapshot, members, now)
    lost = [each for each in members if _find_loss(snapshot, members, each, now) is not None]
    overdue = attempt.stop_time is not None and now >= parse_time(attempt.stop_time) + stop_grace
    if _have_stopped(members, lost, is_stopping=attempt.stop_time is not None):
        return _end("Stopped", attempt.reason or Reason.POD_DRAINED, None, members)
    if failure is not None and not _is_held_back(attempt, members, lost, failure, now, overdue=overdue):
        return _end("Failed", failure.reason, failure, members)
    if overdue:
        return _end("Stopped", attempt.reason or Reason.POD_DRAINED, None, members)
    return None


def find_idle_failure(snapshot: Snapshot, status: FineTuneJobStatus, now: float) -> Failure | None:
    """What failed while no attempt is under way and does not stand in `attempts` yet: a pod that ended, or its agent.

    A pod that is older than the last entry was lost with it: its incarnation says so.
    """
    if find_attempt(status) is not None:
        return None
    needed = [pod for pod in snapshot.pods if _is_needed(status, pod)]
    ended = [pod for pod in needed if pod.has_ended and pod.incarnation >= find_last_number(status)]
    failures = [describe_ended_pod(pod, now) for pod in ended]
    return choose_cause([*failures, *(failure for pod in needed if (failure := hear_idle_failure(snapshot, pod)))])


def hear_idle_failure(snapshot: Snapshot, pod: Pod) -> Failure | None:
    """Why an agent failed without any attempt; such a pod is replaced."""
    answer = snapshot.answers.get(pod.key.name)
    if answer is None or answer.progress.attempt != 0 or not pod.is_usable:
        return None
    failure = answer.progress.failure
    return failure and failure.model_copy(update={"host": failure.host or pod.host or None})


def is_silent_between_attempts(snapshot: Snapshot, pod: Pod, now: float) -> bool:
    """The job cannot go on with this pod: its agent answered once and does so no more.

    What prepares data is given up only where its node says so too; trainers begin nothing with a silent agent.
    """
    is_dispensable = pod.role == names.ROLE_TRAINER or not pod.ready
    known = pod.is_running and pod.key.name in snapshot.answers
    return is_dispensable and known and now >= _silence_ends(snapshot, pod)


def list_moments(snapshot: Snapshot, status: FineTuneJobStatus, stop_grace: float) -> list[float]:
    """Moments at which time alone may end the attempt under way, or a pod between two of them."""
    attempt = find_attempt(status)
    if attempt is None:
        return [_silence_ends(snapshot, pod) for pod in snapshot.pods if pod.key.name in snapshot.answers]
    members = list_members(snapshot, attempt)
    told = [each.answer.since for each in members if each.answer is not None and each.failure is not None]
    stops = [parse_time(attempt.stop_time) + stop_grace] if attempt.stop_time else []
    return [*stops, *(since + PEER_LOST_PATIENCE_SECONDS for since in told), *list_silences(snapshot, members)]


def count_steps(progress: Progress) -> int:
    """Optimizer steps up to which this attempt trained; an agent carries the former attempt's figure into the next."""
    step = progress.step.step if progress.step.first_step_at is not None else 0
    ranks = [rank.step for rank in progress.ranks if rank.phase != "starting"]
    return max(step, progress.resumed_from or 0, *ranks, 0)


def measure_training(progress: Progress) -> float:
    """Seconds that this attempt's optimizer steps took, as far as this agent knows."""
    return progress.step.training_seconds if progress.step.first_step_at is not None else 0.0


def _end(
    result: Literal["Stopped", "Failed"], reason: str, failure: Failure | None, members: tuple[Member, ...]
) -> AttemptEnd:
    heard = [each.answer.progress for each in members if each.answer is not None]
    return AttemptEnd(
        result,
        reason,
        failure,
        last_step=max(map(count_steps, heard), default=0),
        training_seconds=max(map(measure_training, heard), default=0.0),
    )


def _find_failure(snapshot: Snapshot, members: tuple[Member, ...], now: float) -> Failure | None:
    told = [each.failure for each in members if each.failure is not None]
    losses = [_find_loss(snapshot, members, each, now) for each in members if each.failure is None]
    return choose_cause([*told, *(loss for loss in losses if loss is not None)])


def _find_loss(snapshot: Snapshot, members: tuple[Member, ...], member: Member, now: float) -> Failure | None:
    others_fail = any(each.failure is not None for each in members if each is not member)
    return find_loss(snapshot, member, now, others_fail=others_fail)


def _have_stopped(members: tuple[Member, ...], lost: list[Member], *, is_stopping: bool) -> bool:
    """All that still live say so. Ranks agree on a stop: one that went without a word stopped with the others."""
    if any(member.failure is not None for member in members):
        return False
    silent = [member for member in members if not member.has_stopped]
    if not all(member in lost for member in silent):
        return False
    left_in_order = [member for member in silent if member.pod is not None and member.pod.exit_code == 0]
    return len(silent) < len(members) or (is_stopping and len(left_in_order) == len(members) > 0)


def _is_held_back(
    attempt: AttemptStatus,
    members: tuple[Member, ...],
    lost: list[Member],
    failure: Failure,
    now: float,
    *,
    overdue: bool,
) -> bool:
    living = [member for member in members if member not in lost]
    told = [member.answer.since for member in living if member.answer is not None and member.failure is not None]
    if not told:
        # Only losses: while the attempt is being stopped the others save what they have.
        return attempt.stop_time is not None and bool(living) and not overdue
    if not is_secondary(failure) or len(told) == len(living):
        return False
    return now < min(told) + PEER_LOST_PATIENCE_SECONDS


def _is_needed(status: FineTuneJobStatus, pod: Pod) -> bool:
    """A pod that prepared the data may end when the data is there."""
    return pod.role == names.ROLE_TRAINER or not (
        status.data is not None or is_true(status, names.CONDITION_DATA_READY)
    )


def _silence_ends(snapshot: Snapshot, pod: Pod) -> float:
    return find_last_word(snapshot, pod) + SILENCE_SECONDS
