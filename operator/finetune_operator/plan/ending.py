"""The end of a job: its last status, what becomes of its pods, and when the job itself goes.

Nothing is ever created here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from finetune_contract import names
from finetune_contract.names import Reason
from finetune_contract.progress import AgentPhase, Failure
from finetune_contract.status import AttemptStatus, FineTuneJobStatus
from finetune_operator.actions import Annotate
from finetune_operator.plan.attempts import find_attempt
from finetune_operator.plan.conditions import find_condition, is_true, set_condition
from finetune_operator.plan.numbers import count_gpu_seconds
from finetune_operator.plan.times import format_time, parse_time
from finetune_operator.plan.verdict import Verdict
from finetune_operator.snapshot import Pod, Snapshot

FINISH_PATIENCE_SECONDS: Final = 300.0
"""An agent exits at once when it is told to finish; a pod that still runs after this is deleted."""
_IDLE: Final[tuple[AgentPhase, ...]] = ("Idle", "Stopped", "Finished", "Failed")


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
    status = _close_attempt(status, verdict, now)
    facts: dict[str, Any] = {
        "observed_generation": snapshot.generation,
        "phase": "Succeeded" if verdict.succeeded else "Failed",
        "completion_time": format_time(now),
        "failure": verdict.failure,
    }
    if outcome is not None:
        facts |= {"evaluation": outcome.evaluation, "published": outcome.published, "report": outcome.report}
    if snapshot.job is not None:
        gpu_seconds = count_gpu_seconds(status.attempts, snapshot.job.spec, now)
        facts["usage"] = status.usage.model_copy(update={"gpu_seconds": gpu_seconds})
    return _set_last_conditions(status.model_copy(update=facts), verdict, now)


def release_pods(snapshot: Snapshot, status: FineTuneJobStatus, now: float) -> Release:
    """Tell agents to stop or finish; delete pods that have no agent to tell, and those that do not listen."""
    ended = parse_time(status.completion_time or format_time(now))
    alive = [pod for pod in snapshot.pods if not pod.has_ended and not pod.deleting]
    stopping = [pod for pod in alive if _must_stop_first(snapshot, status, pod, ended, now)]
    patience = ended + _stop_grace(snapshot, status) + FINISH_PATIENCE_SECONDS
    doomed = [pod for pod in alive if pod.phase == "Pending" or now >= patience]
    told = [
        (pod, names.ANNOTATION_STOP, pod.stop) if pod in stopping else (pod, names.ANNOTATION_FINISH, pod.finish)
        for pod in alive
        if pod not in doomed
    ]
    waits = [patience - now] if told else []
    waits += [ended + _stop_grace(snapshot, status) - now] if stopping else []
    return Release(
        annotate=tuple(Annotate(pod.key.name, {name: status.phase}) for pod, name, value in told if value is None),
        delete_pods=tuple(pod.key.name for pod in doomed),
        wait=min(waits, default=None),
    )


def wait_for_removal(snapshot: Snapshot, now: float) -> float | None:
    """Seconds until the job deletes itself (0: now); None where it stays."""
    limit = snapshot.job.spec.lifecycle.ttl_seconds_after_finished if snapshot.job else None
    if limit is None or snapshot.status.completion_time is None:
        return None
    return max(0.0, parse_time(snapshot.status.completion_time) + limit - now)


def _close_attempt(status: FineTuneJobStatus, verdict: Verdict, now: float) -> FineTuneJobStatus:
    attempt = find_attempt(status)
    if attempt is None:
        return status
    # A missed gate is an attempt that did all its work.
    finished = verdict.outcome is not None and verdict.failure is None
    closed: AttemptStatus = attempt.model_copy(
        update={
            "end_time": format_time(now),
            "result": "Finished" if finished else "Failed",
            "failure": verdict.failure,
            "last_step": max(attempt.last_step, _last_step(verdict)),
        }
    )
    return status.model_copy(update={"attempts": (*status.attempts[:-1], closed)})


def _last_step(verdict: Verdict) -> int:
    return verdict.outcome.step if verdict.outcome else 0


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
    types = [*([names.CONDITION_DATA_READY] if unready else []), names.CONDITION_RUNNING]
    return [type_ for type_ in types if find_condition(status, type_) is not None]


def describe(verdict: Verdict) -> str:
    """The verdict's sentence, and where the cause was."""
    where = _locate(verdict.failure) if verdict.failure else ""
    return f"{verdict.message} ({where})" if where else verdict.message


def _locate(failure: Failure) -> str:
    parts = {"node": failure.node, "rank": failure.rank, "exit code": failure.exit_code}
    return ", ".join(f"{name} {value}" for name, value in parts.items() if value is not None)


def _is_overdue(status: FineTuneJobStatus) -> bool:
    failed = find_condition(status, names.CONDITION_FAILED)
    return is_true(status, names.CONDITION_FAILED) and failed is not None and failed.reason == Reason.DEADLINE_EXCEEDED


def _stop_grace(snapshot: Snapshot, status: FineTuneJobStatus) -> float:
    """Seconds in which a job that was cut short may save what it has."""
    if not _is_overdue(status) or snapshot.job is None:
        return 0.0
    return float(snapshot.job.spec.lifecycle.stop_grace_seconds)


def _must_stop_first(snapshot: Snapshot, status: FineTuneJobStatus, pod: Pod, ended: float, now: float) -> bool:
    if pod.attempt is None or now >= ended + _stop_grace(snapshot, status):
        return False
    answer = snapshot.answers.get(pod.key.name)
    return answer is None or answer.progress.phase not in _IDLE
