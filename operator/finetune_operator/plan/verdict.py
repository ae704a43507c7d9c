"""Whether the job has ended, and how. One rule a function; the first that has an answer decides.

Must not write: it returns a value, and ending.py turns it into a status.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from finetune_contract import names
from finetune_contract.exits import FailureClass
from finetune_contract.names import Reason
from finetune_contract.progress import Failure, Outcome
from finetune_contract.spec.lifecycle import LifecycleSpec
from finetune_contract.status import FineTuneJobStatus
from finetune_operator.plan.attempts import find_attempt
from finetune_operator.plan.conditions import find_condition, is_true
from finetune_operator.plan.failure import choose_cause, describe_lost_pod, describe_missing_pod
from finetune_operator.plan.times import parse_time
from finetune_operator.snapshot import Answer, Snapshot

PEER_LOST_PATIENCE_SECONDS: Final = 15.0
"""A victim often speaks before the rank that failed; the cause is awaited this long."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of a job."""

    reason: str
    message: str
    succeeded: bool = False
    accepted: bool = True
    """False: the spec itself was refused."""
    outcome: Outcome | None = None
    failure: Failure | None = None


def judge(snapshot: Snapshot, now: float) -> Verdict | None:
    """The verdict on a job that has not ended yet; None while it goes on."""
    for rule in _RULES:
        verdict = rule(snapshot, now)
        if verdict is not None:
            return verdict
    return None


def next_deadline(snapshot: Snapshot, now: float) -> float | None:
    """Seconds until time alone may end the job; None where it cannot."""
    moments = [moment for moment, _ in _list_deadlines(snapshot)]
    moments += [answer.since + PEER_LOST_PATIENCE_SECONDS for answer in _failed(snapshot)]
    return min((moment - now for moment in moments if moment > now), default=None)


def _refuse_invalid(snapshot: Snapshot, now: float) -> Verdict | None:
    if snapshot.problem is None:
        return None
    return Verdict(Reason.INVALID_SPEC, snapshot.problem, accepted=False)


def _refuse_unsupported(snapshot: Snapshot, now: float) -> Verdict | None:
    # A job under way goes on as it was accepted; the wish is answered by the condition alone.
    if snapshot.unsupported is None or is_true(snapshot.status, names.CONDITION_ACCEPTED) or snapshot.pods:
        return None
    return Verdict(Reason.NOT_YET_SUPPORTED, snapshot.unsupported, accepted=False)


def _hear_outcome(snapshot: Snapshot, now: float) -> Verdict | None:
    answers = sorted(snapshot.answers.values(), key=lambda answer: answer.progress.node)
    outcome = next((answer.progress.outcome for answer in answers if answer.progress.outcome), None)
    if outcome is None:
        return None
    return Verdict(
        outcome.reason, outcome.message, succeeded=outcome.succeeded, outcome=outcome, failure=outcome.failure
    )


def _hear_failure(snapshot: Snapshot, now: float) -> Verdict | None:
    cause = choose_cause(answer.progress.failure for answer in _failed(snapshot) if answer.progress.failure)
    if cause is None:
        return None
    if cause.failure_class is FailureClass.PEER_LOST:
        waited = now - min(answer.since for answer in _failed(snapshot))
        if waited < PEER_LOST_PATIENCE_SECONDS:
            return None
    return Verdict(cause.reason, cause.message, failure=cause)


def _miss_pod(snapshot: Snapshot, now: float) -> Verdict | None:
    ended = [pod for pod in snapshot.pods if pod.has_ended and _is_needed(snapshot, pod.role)]
    if ended:
        failure = describe_lost_pod(min(ended, key=lambda pod: pod.phase != "Failed"), now)
        return Verdict(failure.reason, failure.message, failure=failure)
    attempt = find_attempt(snapshot.status)
    missing = set(range(attempt.nodes if attempt else 0)) - {pod.node_index for pod in snapshot.trainers}
    if missing:
        failure = describe_missing_pod(min(missing), now)
        return Verdict(failure.reason, failure.message, failure=failure)
    return None


def _accept_rejection(snapshot: Snapshot, now: float) -> Verdict | None:
    if snapshot.rejection is None or not snapshot.rejection.final:
        return None
    return Verdict(
        Reason.POD_REJECTED,
        f"The API server refused a pod: {snapshot.rejection.message}; change spec.pod or spec.resources",
    )


def _exceed_deadline(snapshot: Snapshot, now: float) -> Verdict | None:
    message = next((message for moment, message in _list_deadlines(snapshot) if now >= moment), None)
    return Verdict(Reason.DEADLINE_EXCEEDED, message) if message else None


def _list_deadlines(snapshot: Snapshot) -> list[tuple[float, str]]:
    status = snapshot.status
    limits = snapshot.job.spec.lifecycle if snapshot.job is not None else LifecycleSpec()
    deadlines = []
    if limits.active_deadline_seconds is not None and status.start_time is not None:
        deadlines.append((
            parse_time(status.start_time) + limits.active_deadline_seconds,
            f"The job ran longer than spec.lifecycle.activeDeadlineSeconds ({limits.active_deadline_seconds});"
            " raise it, or train less",
        ))  # fmt: skip
    asked = _pods_wanted_since(status)
    if limits.queue_deadline_seconds is not None and asked is not None:
        deadlines.append((
            asked + limits.queue_deadline_seconds,
            "The pods did not start within spec.lifecycle.queueDeadlineSeconds"
            f" ({limits.queue_deadline_seconds}); raise it, or ask for less in spec.resources",
        ))  # fmt: skip
    return deadlines


def _pods_wanted_since(status: FineTuneJobStatus) -> float | None:
    """Since when pods are awaited: from acceptance, or from the end of a preparation; None while none is."""
    if status.attempts or status.phase == "Preparing":
        return None
    type_ = names.CONDITION_DATA_READY if status.data is not None else names.CONDITION_ACCEPTED
    condition = find_condition(status, type_)
    return parse_time(condition.last_transition_time) if condition is not None else None


def _failed(snapshot: Snapshot) -> list[Answer]:
    """Answers that report a failure; what an agent still says of a former attempt is past."""
    attempt = find_attempt(snapshot.status)
    past = range(1, attempt.number if attempt else 0)
    return [
        answer
        for answer in snapshot.answers.values()
        if answer.progress.failure is not None and answer.progress.attempt not in past
    ]


def _is_needed(snapshot: Snapshot, role: str) -> bool:
    """A pod that prepared the data may end when the data is there."""
    return role == names.ROLE_TRAINER or not is_true(snapshot.status, names.CONDITION_DATA_READY)


_RULES: Final[tuple[Callable[[Snapshot, float], Verdict | None], ...]] = (
    _refuse_invalid,
    _refuse_unsupported,
    _hear_outcome,
    _hear_failure,
    _miss_pod,
    _accept_rejection,
    _exceed_deadline,
)
