"""The events that people see with `kubectl describe`: one function an event, derived from what the status newly says.

Few and useful. Must write nothing: the recorder does, after the status stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from finetune_contract import names
from finetune_contract.names import Reason
from finetune_contract.progress import CheckpointRecord
from finetune_contract.status import AttemptStatus, Condition, FineTuneJobStatus
from finetune_operator.plan.conditions import find_condition, is_true


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the job's story."""

    type: Literal["Normal", "Warning"]
    reason: str
    action: str
    """What the operator did, in one CamelCase word (events.k8s.io)."""
    note: str


def derive_events(before: FineTuneJobStatus, after: FineTuneJobStatus) -> tuple[Event, ...]:
    """What `after` says that `before` did not."""
    known = {attempt.number for attempt in before.attempts}
    verified = {(record.step, record.attempt) for record in before.checkpoints if record.digest}
    events = [attempt_started(attempt) for attempt in after.attempts if attempt.number not in known]
    for type_ in (names.CONDITION_DATA_READY, names.CONDITION_RUNNING):
        events += [became_true(each) for each in _newly_true(before, after, type_)]
    events += [
        checkpoint_verified(record)
        for record in after.checkpoints
        if record.digest and (record.step, record.attempt) not in verified
    ]
    events += [became_true(each) for each in _newly_true(before, after, names.CONDITION_SUCCEEDED)]
    events += [failed(each) for each in _newly_true(before, after, names.CONDITION_FAILED)]
    return tuple(events)


def pods_created(role: str, count: int) -> Event:
    """Pods were asked for."""
    return Event("Normal", Reason.PODS_CREATED, "CreatePods", f"Created {count} {role} pod{'s' if count > 1 else ''}.")


def attempt_started(attempt: AttemptStatus) -> Event:
    """The members of an attempt were told to train together."""
    nodes = f"{attempt.nodes} node{'s' if attempt.nodes > 1 else ''}"
    return Event("Normal", Reason.ATTEMPT_STARTED, "StartAttempt", f"Attempt {attempt.number} started on {nodes}.")


def checkpoint_verified(record: CheckpointRecord) -> Event:
    """A checkpoint was read back and equals what was written."""
    return Event(
        "Normal", Reason.CHECKPOINT_VERIFIED, "Checkpoint", f"Checkpoint of step {record.step} at {record.uri}."
    )


def became_true(condition: Condition) -> Event:
    """A good condition, in its own words."""
    return Event("Normal", condition.reason, condition.type, condition.message)


def failed(condition: Condition) -> Event:
    """The end that nobody wanted, in the condition's own words."""
    return Event("Warning", condition.reason, condition.type, condition.message)


def _newly_true(before: FineTuneJobStatus, after: FineTuneJobStatus, type_: str) -> list[Condition]:
    condition = find_condition(after, type_)
    return [condition] if condition and is_true(after, type_) and not is_true(before, type_) else []
