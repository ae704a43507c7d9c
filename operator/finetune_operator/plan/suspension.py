"""The condition Suspended, and what a job that is held gives back: all its pods, once nothing is left to save."""

from __future__ import annotations

from typing import Literal

from finetune_contract import names
from finetune_contract.names import Reason
from finetune_contract.progress import find_newest_step
from finetune_contract.status import FineTuneJobStatus
from finetune_operator.plan.attempts import find_attempt
from finetune_operator.plan.conditions import find_condition, set_condition
from finetune_operator.plan.holds import Hold
from finetune_operator.snapshot import Snapshot


def fold_suspended(snapshot: Snapshot, status: FineTuneJobStatus, hold: Hold | None, now: float) -> FineTuneJobStatus:
    """The status with Suspended: True once the pods are gone, False while they go and after the job was resumed."""
    known = find_condition(status, names.CONDITION_SUSPENDED)
    if hold is None:
        if known is None or known.reason == Reason.RESUMED:
            return status
        return _set(status, "False", Reason.RESUMED, "The job goes on.", now)
    if find_attempt(status) is not None or snapshot.pods:
        return _set(status, "False", Reason.SUSPENDING, _describe_wait(status, hold), now)
    status = _set(status, "True", hold.reason, f"{_describe_checkpoint(status)}; {hold.message}.", now)
    # As in batch/v1: activeDeadlineSeconds counts anew after a suspension.
    return status.model_copy(update={"start_time": None, "retry_time": None})


def list_given_back(snapshot: Snapshot, status: FineTuneJobStatus) -> tuple[str, ...]:
    """Pods that a held job gives back now: none before the attempt under way has ended."""
    if find_attempt(status) is not None:
        return ()
    return tuple(pod.key.name for pod in snapshot.pods if not pod.deleting)


def _set(
    status: FineTuneJobStatus, value: Literal["True", "False"], reason: str, message: str, now: float
) -> FineTuneJobStatus:
    # The moment of Resumed counts, from which pods are awaited, also where the pods had not gone yet.
    return set_condition(status, names.CONDITION_SUSPENDED, value, reason, message, now=now, reason_turns=True)


def _describe_wait(status: FineTuneJobStatus, hold: Hold) -> str:
    if find_attempt(status) is not None:
        return f"The workers save a checkpoint and stop; {hold.message}."
    return f"The pods are going; {hold.message}."


def _describe_checkpoint(status: FineTuneJobStatus) -> str:
    step = find_newest_step(status.checkpoints)
    if step:
        return f"The newest verified checkpoint is of step {step}"
    return "There is no checkpoint yet"
