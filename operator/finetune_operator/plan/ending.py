"""The end of a job: its last status, what becomes of its pods, and when the job itself goes.

Nothing is ever created here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from finetune_contract import names
from finetune_contract.names import Reason
from finetune_contract.status import FineTuneJobStatus
from finetune_operator.actions import Annotate
from finetune_operator.plan.attempts import AttemptEnd, close_attempt, find_attempt
from finetune_operator.plan.conditions import find_condition, is_true, set_condition
from finetune_operator.plan.events import describe_cause
from finetune_operator.plan.times import format_time, parse_time
from finetune_operator.plan.usage import count_usage
from finetune_operator.plan.verdict import Verdict
from finetune_operator.snapshot import Snapshot

FINISH_PATIENCE_SECONDS: Final = 300.0
"""An agent exits at once when it is told to finish; a pod that still runs after this is deleted."""


@dataclass(frozen=True, slots=True)
class Release:
    """What becomes of the pods of a job that has ended."""

    annotate: tuple[Annotate, ...]
    delete_pods: tuple[str, ...]
    wait: float | None
    """Seconds until more is due; None: nothing is left."""


def end_status(snapshot: Snapshot, status: FineTuneJobStatus, verdict: Verdict, now: float) -> FineTuneJobStatus:
    """The last status of the job."""
    outcome = verdict.outcome
    status = _close_last_attempt(status, verdict, now)
    facts: dict[str, Any] = {
        "observed_generation": snapshot.generation,
        "phase": "Succeeded" if verdict.succeeded else "Failed",
        "completion_time": format_time(now),
        "retry_time": None,
        "failure": verdict.failure,
    }
    if outcome is not None:
        facts |= {"evaluation": outcome.evaluation, "published": outcome.published, "report": outcome.report}
    if snapshot.job is not None:
        facts["usage"] = count_usage(status, snapshot.job.spec, now).usage
    return _set_last_conditions(status.model_copy(update=facts), verdict, now)


def release_pods(snapshot: Snapshot, status: FineTuneJobStatus, now: float) -> Release:
    """Tell agents to finish; delete pods that have no agent to tell, and those that do not listen."""
    alive = [pod for pod in snapshot.pods if pod.is_usable]
    patience = parse_time(status.completion_time or format_time(now)) + FINISH_PATIENCE_SECONDS
    doomed = [pod for pod in alive if pod.phase == "Pending" or now >= patience]
    told = [pod for pod in alive if pod not in doomed]
    return Release(
        annotate=tuple(
            Annotate(pod.key.name, {names.ANNOTATION_FINISH: status.phase}) for pod in told if pod.finish is None
        ),
        delete_pods=tuple(pod.key.name for pod in doomed),
        wait=patience - now if told else None,
    )


def wait_for_removal(snapshot: Snapshot, now: float) -> float | None:
    """Seconds until the job deletes itself (0: now); None where it stays."""
    limit = snapshot.job.spec.lifecycle.ttl_seconds_after_finished if snapshot.job else None
    if limit is None or snapshot.status.completion_time is None:
        return None
    return max(0.0, parse_time(snapshot.status.completion_time) + limit - now)


def _close_last_attempt(status: FineTuneJobStatus, verdict: Verdict, now: float) -> FineTuneJobStatus:
    # A missed gate is an attempt that did all its work.
    finished = verdict.outcome is not None and verdict.failure is None
    result: Literal["Finished", "Failed"] = "Finished" if finished else "Failed"
    reason = Reason.FINISHED if finished else verdict.reason
    attempt, outcome = find_attempt(status), verdict.outcome
    # An attempt that merely finds the outcome of a former one made no steps.
    is_own = attempt is not None and outcome is not None and outcome.attempt == attempt.number
    step = outcome.step if outcome is not None and is_own else 0
    was_heard = attempt is not None and attempt.last_step > 0
    return close_attempt(status, AttemptEnd(result, reason, verdict.failure, step, was_heard=was_heard), now)


def _set_last_conditions(status: FineTuneJobStatus, verdict: Verdict, now: float) -> FineTuneJobStatus:
    message = describe(verdict)
    if not verdict.accepted:
        status = set_condition(status, names.CONDITION_ACCEPTED, "False", verdict.reason, message, now=now)
    over = Reason.FINISHED if verdict.succeeded else verdict.reason
    for type_ in _never_true(status):
        status = set_condition(status, type_, "False", over, "The job has ended.", now=now)
    last = names.CONDITION_SUCCEEDED if verdict.succeeded else names.CONDITION_FAILED
    return set_condition(status, last, "True", verdict.reason, message, now=now)


def _never_true(status: FineTuneJobStatus) -> list[str]:
    """Conditions that would still promise something: nothing runs any more, and missing data does not come."""
    unready = not is_true(status, names.CONDITION_DATA_READY)
    held = [names.CONDITION_SUSPENDED] if is_true(status, names.CONDITION_SUSPENDED) else []
    types = [*([names.CONDITION_DATA_READY] if unready else []), names.CONDITION_RUNNING]
    return [type_ for type_ in (*types, *held) if find_condition(status, type_) is not None]


def describe(verdict: Verdict) -> str:
    """The verdict's sentence, and where the cause was."""
    where = describe_cause(verdict.failure) if verdict.failure else ""
    return f"{verdict.message} ({where})" if where else verdict.message
