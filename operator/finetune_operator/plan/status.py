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
from finetune_operator.plan.attempts import find_attempt
from finetune_operator.plan.checkpoints import fold_checkpoints
from finetune_operator.plan.conditions import set_condition
from finetune_operator.plan.numbers import note_first_step
from finetune_operator.plan.phases import derive_phase
from finetune_operator.plan.waiting import explain_waiting
from finetune_operator.snapshot import Snapshot

LABELS_LIMIT = 200
"""Class names in status.data; report and model card hold them all."""
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


def fold(snapshot: Snapshot, status: FineTuneJobStatus, resolved: Resolved, now: float) -> FineTuneJobStatus:
    """`status`, which has this attempt already, with what agents and pods say; the moving figures are numbers.py's."""
    node0 = hear_first_node(snapshot, status)
    status = _fold_data(snapshot, status)
    status = fold_checkpoints(status, node0, resolved)
    status = note_first_step(status, node0, snapshot.created)
    agents = [heard.phase for heard in hear_members(snapshot, status)]
    phase = derive_phase(snapshot.status, status, agents, is_preparing=_is_preparing(snapshot, status))
    status = status.model_copy(update={"phase": phase})
    return _fold_running(snapshot, _fold_data_ready(snapshot, status, now), now)


def hear_members(snapshot: Snapshot, status: FineTuneJobStatus) -> list[Progress]:
    """Answers of those agents that follow the attempt under way, by node."""
    attempt = find_attempt(status)
    number = attempt.number if attempt else 0
    heard = [answer.progress for answer in snapshot.answers.values() if answer.progress.attempt == number]
    return sorted((each for each in heard if each.role == names.ROLE_TRAINER), key=lambda each: each.node)


def hear_first_node(snapshot: Snapshot, status: FineTuneJobStatus) -> Progress | None:
    """The answer of node 0, which keeps the ledger."""
    return next((heard for heard in hear_members(snapshot, status) if heard.node == 0), None)


def _fold_data(snapshot: Snapshot, status: FineTuneJobStatus) -> FineTuneJobStatus:
    summaries = [answer.progress.data for answer in snapshot.answers.values() if answer.progress.data]
    if status.data is not None or not summaries:
        return status
    data = summaries[0].model_copy(update={"labels": summaries[0].labels[:LABELS_LIMIT]})
    return status.model_copy(update={"data": data})


def _is_preparing(snapshot: Snapshot, status: FineTuneJobStatus) -> bool:
    pod = snapshot.prepare_pod
    return find_attempt(status) is not None or (pod is not None and pod.phase != "Pending")


def _fold_data_ready(snapshot: Snapshot, status: FineTuneJobStatus, now: float) -> FineTuneJobStatus:
    if status.data is not None:
        return set_condition(
            status, names.CONDITION_DATA_READY, "True", Reason.PREPARED, _describe_data(status.data), now=now
        )
    if status.phase == "Preparing":
        message = _describe_preparation(snapshot)
        return set_condition(status, names.CONDITION_DATA_READY, "False", Reason.PREPARING, message, now=now)
    message = explain_waiting(snapshot, now)
    return set_condition(status, names.CONDITION_DATA_READY, "False", Reason.PODS_STARTING, message, now=now)


def _fold_running(snapshot: Snapshot, status: FineTuneJobStatus, now: float) -> FineTuneJobStatus:
    if status.phase in _TRAINING:
        reason, message = _TRAINING[status.phase]
        return set_condition(status, names.CONDITION_RUNNING, "True", reason, _add_warnings(snapshot, message), now=now)
    reason, message = _explain_not_running(snapshot, status, now)
    return set_condition(status, names.CONDITION_RUNNING, "False", reason, message, now=now)


def _explain_not_running(snapshot: Snapshot, status: FineTuneJobStatus, now: float) -> tuple[str, str]:
    attempt = find_attempt(status)
    if attempt is None and status.phase != "Preparing":
        return Reason.PODS_STARTING, explain_waiting(snapshot, now)
    if status.phase == "Preparing":
        return Reason.PREPARING, _describe_preparation(snapshot)
    return Reason.ATTEMPT_STARTED, "The workers are starting."


def _add_warnings(snapshot: Snapshot, message: str) -> str:
    warnings = dict.fromkeys(warning for heard in hear_members(snapshot, snapshot.status) for warning in heard.warnings)
    return " ".join([message, *warnings])


def _describe_preparation(snapshot: Snapshot) -> str:
    heard = [answer.progress.preparation for answer in snapshot.answers.values() if answer.progress.preparation]
    return f"Data and model are being prepared{f' ({heard[0].stage})' if heard else ''}."


def _describe_data(data: DataSummary) -> str:
    # In this order, whatever order the API server gives maps back in: another order would be another message.
    rows = ", ".join(f"{data.parts[name].rows} {name}" for name in _PARTS if name in data.parts)
    return f"Prepared rows: {rows}{' (reused)' if data.reused else ''}."
