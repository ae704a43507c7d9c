"""Whether the job has ended, and how. One rule a function; the first that has an answer decides.

Must not write: it returns a value, and ending.py turns it into a status.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from finetune_contract import names
from finetune_contract.names import Reason
from finetune_contract.progress import Failure, Outcome
from finetune_contract.spec import FineTuneJobSpec
from finetune_contract.status import FineTuneJobStatus
from finetune_operator.plan.attempts import find_attempt
from finetune_operator.plan.conditions import is_true
from finetune_operator.plan.membership import find_pods_wanted
from finetune_operator.plan.stopping import find_deadline
from finetune_operator.snapshot import Snapshot


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
    """The verdict that stands whatever attempts and pods do: a bad spec, the outcome, a pod that can never be."""
    for rule in _RULES:
        verdict = rule(snapshot, now)
        if verdict is not None:
            return verdict
    return None


def judge_deadlines(status: FineTuneJobStatus, spec: FineTuneJobSpec, now: float) -> Verdict | None:
    """The verdict on a job that took too long. One that trains is stopped first, so that nothing is lost."""
    message = next((message for moment, message in _list_deadlines(status, spec) if now >= moment), None)
    return Verdict(Reason.DEADLINE_EXCEEDED, message) if message else None


def list_deadline_moments(status: FineTuneJobStatus, spec: FineTuneJobSpec) -> list[float]:
    """When time alone may stop or end the job."""
    deadline = find_deadline(status, spec)
    return [*([deadline] if deadline is not None else []), *(moment for moment, _ in _list_deadlines(status, spec))]


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


def _accept_rejection(snapshot: Snapshot, now: float) -> Verdict | None:
    if snapshot.rejection is None or not snapshot.rejection.final:
        return None
    return Verdict(
        Reason.POD_REJECTED,
        f"The API server refused a pod: {snapshot.rejection.message}; change spec.pod or spec.resources",
    )


def _list_deadlines(status: FineTuneJobStatus, spec: FineTuneJobSpec) -> list[tuple[float, str]]:
    limits = spec.lifecycle
    deadlines = []
    overdue, asked = find_deadline(status, spec), find_pods_wanted(status)
    if overdue is not None:
        # The stop that came with the deadline ends the attempt within its grace.
        patience = 0.0 if find_attempt(status) is None else limits.stop_grace_seconds
        deadlines.append((
            overdue + patience,
            f"The job ran longer than spec.lifecycle.activeDeadlineSeconds ({limits.active_deadline_seconds});"
            " raise it, or train less",
        ))  # fmt: skip
    if limits.queue_deadline_seconds is not None and asked is not None and find_attempt(status) is None:
        deadlines.append((
            asked + limits.queue_deadline_seconds,
            "The pods did not start within spec.lifecycle.queueDeadlineSeconds"
            f" ({limits.queue_deadline_seconds}); raise it, or ask for less in spec.resources",
        ))  # fmt: skip
    return deadlines


_RULES: Final[tuple[Callable[[Snapshot, float], Verdict | None], ...]] = (
    _refuse_invalid,
    _refuse_unsupported,
    _hear_outcome,
    _accept_rejection,
)
