"""The status of a job that goes on: what was known, and what pods and agents say now, folded together.

Derived, never incremented: the same snapshot gives the same status, and what nobody says stays as it was.
"""

from __future__ import annotations

from collections.abc import Mapping

from finetune_contract import names
from finetune_contract.names import Reason
from finetune_contract.progress import DataSummary, Progress
from finetune_contract.run import Resolved
from finetune_contract.status import FineTuneJobStatus, Phase
from finetune_operator.plan.attempts import find_attempt, find_last_number, note_steps
from finetune_operator.plan.checkpoints import fold_checkpoints
from finetune_operator.plan.conditions import find_condition, set_condition
from finetune_operator.plan.failure import count_wait
from finetune_operator.plan.holds import Hold
from finetune_operator.plan.members import hear_members, list_members
from finetune_operator.plan.numbers import note_first_step, wait_for_numbers
from finetune_operator.plan.phases import derive_phase
from finetune_operator.plan.waiting import explain_waiting
from finetune_operator.snapshot import Snapshot

LABELS_LIMIT = 200
"""Class names in status.data; report and model card hold them all."""
WARNINGS = 2
"""Warnings in the condition Running, the newest; the logs hold all."""
_PARTS = ("train", "validation", "test")
_TRAINING: Mapping[Phase, tuple[str, str]] = {
    "Running": (Reason.TRAINING, "Training."),
    "Evaluating": (Reason.EVALUATING, "The best checkpoint is being evaluated."),
    "Publishing": (Reason.PUBLISHING, "The model is being published."),
}


def accept(snapshot: Snapshot, resolved: Resolved, now: float) -> FineTuneJobStatus:
    """The status in which the spec is judged: accepted, or accepted earlier and asked for more than can be done."""
    status = snapshot.status.model_copy(update={"observed_generation": snapshot.generation, "resolved": resolved})
    if snapshot.unsupported is None:
        return set_condition(status, names.CONDITION_ACCEPTED, "True", Reason.ACCEPTED, "The spec is valid.", now=now)
    message = f"{snapshot.unsupported}; the job goes on without it"
    return set_condition(status, names.CONDITION_ACCEPTED, "False", Reason.NOT_YET_SUPPORTED, message, now=now)


def hear(snapshot: Snapshot, status: FineTuneJobStatus, resolved: Resolved) -> FineTuneJobStatus:
    """`status` with what the agents say that does not move with every step, before the attempt is judged by it."""
    first = hear_first_member(snapshot, status)
    status = _fold_data(snapshot, status)
    status = fold_checkpoints(status, first, resolved)
    # All ranks resume from the same step: whoever is heard first may say which.
    told = [heard.resumed_from for heard in hear_members(snapshot, find_attempt(status)) if heard.resumed_from]
    if told:
        status = note_steps(status, resumed_from=told[0], last_step=0)
    return note_first_step(status, first, snapshot.created)


def conclude(snapshot: Snapshot, status: FineTuneJobStatus, hold: Hold | None, now: float) -> FineTuneJobStatus:
    """`status`, whose attempts stand, with the phase and the conditions that follow from them."""
    agents = [heard.phase for heard in hear_members(snapshot, find_attempt(status))]
    is_preparing = _is_preparing(snapshot, status)
    phase = derive_phase(snapshot.status, status, agents, is_preparing=is_preparing, is_held=hold is not None)
    status = status.model_copy(update={"phase": phase})
    return _fold_running(snapshot, _fold_data_ready(snapshot, status, now), hold, now)


def hear_first_member(snapshot: Snapshot, status: FineTuneJobStatus) -> Progress | None:
    """What the first member's agent says, which keeps the ledger; None while it is silent."""
    attempt = find_attempt(status)
    members = list_members(snapshot, attempt) if attempt else ()
    return members[0].answer.progress if members and members[0].answer is not None else None


def _fold_data(snapshot: Snapshot, status: FineTuneJobStatus) -> FineTuneJobStatus:
    summaries = [answer.progress.data for answer in snapshot.answers.values() if answer.progress.data]
    if status.data is not None or not summaries:
        return status
    data = summaries[0].model_copy(update={"labels": summaries[0].labels[:LABELS_LIMIT]})
    return status.model_copy(update={"data": data})


def _is_preparing(snapshot: Snapshot, status: FineTuneJobStatus) -> bool:
    pods = [pod for pod in snapshot.pods if pod.role == names.ROLE_PREPARE and pod.is_usable]
    return find_attempt(status) is not None or any(pod.phase != "Pending" for pod in pods)


def _fold_data_ready(snapshot: Snapshot, status: FineTuneJobStatus, now: float) -> FineTuneJobStatus:
    if status.data is not None:
        return set_condition(
            status, names.CONDITION_DATA_READY, "True", Reason.PREPARED, _describe_data(status.data), now=now
        )
    if status.phase == "Preparing":
        message = _describe_preparation(snapshot)
        return set_condition(status, names.CONDITION_DATA_READY, "False", Reason.PREPARING, message, now=now)
    suspended = find_condition(status, names.CONDITION_SUSPENDED)
    if suspended is not None and suspended.reason != Reason.RESUMED:
        message = "The data is prepared once the job goes on."
        return set_condition(status, names.CONDITION_DATA_READY, "False", suspended.reason, message, now=now)
    message = explain_waiting(snapshot, now)
    return set_condition(status, names.CONDITION_DATA_READY, "False", Reason.PODS_STARTING, message, now=now)


def _fold_running(snapshot: Snapshot, status: FineTuneJobStatus, hold: Hold | None, now: float) -> FineTuneJobStatus:
    if status.phase in _TRAINING:
        reason, message = _TRAINING[status.phase]
        base = _add_stop(status, message)
        message = _pace(snapshot.status, reason, base, _add_warnings(snapshot, status, base), now)
        return set_condition(status, names.CONDITION_RUNNING, "True", reason, message, now=now)
    reason, message = _explain_not_running(snapshot, status, hold, now)
    return set_condition(status, names.CONDITION_RUNNING, "False", reason, message, now=now)


def _explain_not_running(
    snapshot: Snapshot, status: FineTuneJobStatus, hold: Hold | None, now: float
) -> tuple[str, str]:
    attempt = find_attempt(status)
    suspended = find_condition(status, names.CONDITION_SUSPENDED)
    if hold is not None and suspended is not None:
        return suspended.reason, suspended.message
    if attempt is not None and attempt.stop_time is not None:
        return attempt.reason or Reason.SUSPENDING, "The workers save a checkpoint and stop."
    if count_wait(status, now) > 0:
        return Reason.BACKING_OFF, _describe_retry(status)
    if status.phase == "Preparing":
        return Reason.PREPARING, _describe_preparation(snapshot)
    if attempt is None:
        return Reason.PODS_STARTING, explain_waiting(snapshot, now)
    return Reason.ATTEMPT_STARTED, "The workers are starting."


def _describe_retry(status: FineTuneJobStatus) -> str:
    number, failure = find_last_number(status), status.attempts[-1].failure
    what = f"Attempt {number} failed" + (f": {failure.message}" if failure else "")
    return f"{what[:3800]}; attempt {number + 1} begins at {status.retry_time} at the earliest."


def _add_stop(status: FineTuneJobStatus, message: str) -> str:
    attempt = find_attempt(status)
    if attempt is None or attempt.stop_time is None:
        return message
    return f"{message} The workers were asked to save a checkpoint and stop ({attempt.reason})."


def _add_warnings(snapshot: Snapshot, status: FineTuneJobStatus, message: str) -> str:
    heard = hear_members(snapshot, find_attempt(status))
    warnings = [*dict.fromkeys(warning for each in heard for warning in each.warnings)]
    return " ".join([message, *warnings[-WARNINGS:]])


def _pace(before: FineTuneJobStatus, reason: str, base: str, message: str, now: float) -> str:
    """Another warning alone may be written no more often than other figures."""
    known = find_condition(before, names.CONDITION_RUNNING)
    is_kept = known is not None and known.reason == reason and known.message.startswith(base)
    return known.message if known is not None and is_kept and wait_for_numbers(before, now) > 0 else message


def _describe_preparation(snapshot: Snapshot) -> str:
    heard = [answer.progress.preparation for answer in snapshot.answers.values() if answer.progress.preparation]
    return f"Data and model are being prepared{f' ({heard[0].stage})' if heard else ''}."


def _describe_data(data: DataSummary) -> str:
    # In this order, whatever order the API server gives maps back in: another order would be another message.
    rows = ", ".join(f"{data.parts[name].rows} {name}" for name in _PARTS if name in data.parts)
    return f"Prepared rows: {rows}{' (reused)' if data.reused else ''}."
