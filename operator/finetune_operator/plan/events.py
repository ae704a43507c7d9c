"""The events that people see with `kubectl describe`: one function an event, derived from what the status newly says.

Few and useful. Must write nothing: the recorder does, after the status stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from finetune_contract import names
from finetune_contract.names import Reason
from finetune_contract.progress import CheckpointRecord, Failure, Straggler
from finetune_contract.status import AttemptStatus, Condition, FineTuneJobStatus
from finetune_operator.plan.attempts import find_last_number
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
    verified = {(record.step, record.attempt) for record in before.checkpoints if record.digest}
    events = [*_derive_attempt_events(before, after)]
    events += [node_avoided(host) for host in after.avoided_nodes if host not in before.avoided_nodes]
    events += [steps_skipped(step) for step in after.skipped_steps if step not in before.skipped_steps]
    events += [became_true(each) for each in _newly_true(before, after, names.CONDITION_DATA_READY)]
    events += [
        attempt_runs(find_last_number(after), each) for each in _newly_true(before, after, names.CONDITION_RUNNING)
    ]
    events += [
        checkpoint_verified(record)
        for record in after.checkpoints
        if record.digest and (record.step, record.attempt) not in verified
    ]
    events += _derive_suspension_events(before, after)
    events += [became_true(each) for each in _newly_true(before, after, names.CONDITION_SUCCEEDED)]
    events += [failed(each) for each in _newly_true(before, after, names.CONDITION_FAILED)]
    return tuple(events)


def describe_cause(failure: Failure) -> str:
    """Where a failure was, as it stands in brackets behind its message; empty where nobody knows."""
    parts = {
        "node": failure.node,
        "rank": failure.rank,
        "step": failure.step,
        "on": failure.host,
        "exit code": failure.exit_code,
    }
    return ", ".join(f"{name} {value}" for name, value in parts.items() if value is not None)


def pods_created(role: str, count: int) -> Event:
    """Pods were asked for."""
    return Event("Normal", Reason.PODS_CREATED, "CreatePods", f"Created {count} {role} pod{'s' if count > 1 else ''}.")


def attempt_began(attempt: AttemptStatus) -> Event:
    """The members of an attempt were told to train together."""
    nodes = f"{attempt.nodes} node{'s' if attempt.nodes > 1 else ''}"
    return Event("Normal", Reason.ATTEMPT_STARTED, "StartAttempt", f"Attempt {attempt.number} started on {nodes}.")


def attempt_resumed(attempt: AttemptStatus) -> Event:
    """An attempt said from where it goes on."""
    return Event(
        "Normal",
        Reason.ATTEMPT_STARTED,
        "ResumeAttempt",
        f"Attempt {attempt.number} resumes from step {attempt.from_step}.",
    )


def attempt_runs(number: int, condition: Condition) -> Event:
    """The workers of an attempt do what they are there for; each attempt says so once."""
    return Event("Normal", condition.reason, condition.type, f"Attempt {number}: {condition.message}")


def attempt_failed(attempt: AttemptStatus) -> Event:
    """An attempt failed: the class, the cause in its own words, and where it was."""
    failure = attempt.failure
    what = f"Attempt {attempt.number} failed" if attempt.nodes else "A pod failed between two attempts"
    if failure is None:
        return Event("Warning", Reason.ATTEMPT_FAILED, "EndAttempt", f"{what}: {attempt.reason}.")
    where = describe_cause(failure)
    note = f"{what} ({failure.failure_class}): {failure.message}{f' ({where})' if where else ''}."
    return Event("Warning", Reason.ATTEMPT_FAILED, "EndAttempt", note)


def attempt_stopped(attempt: AttemptStatus) -> Event:
    """An attempt ended as it was asked to."""
    return Event(
        "Normal",
        Reason.ATTEMPT_STOPPED,
        "EndAttempt",
        f"Attempt {attempt.number} stopped at step {attempt.last_step} ({attempt.reason}).",
    )


def micro_batch_reduced(attempt: AttemptStatus) -> Event:
    """Memory ran out, and the next attempt needs less of it."""
    note = f"Attempt {attempt.number} computes {attempt.micro_batch_size} rows at a time; the global batch stays."
    return Event("Normal", Reason.MICRO_BATCH_REDUCED, "ReduceMicroBatch", note)


def steps_skipped(step: int) -> Event:
    """A step's rows are passed over from now on."""
    note = f"Step {step} is passed over: its loss was not usable."
    return Event("Warning", Reason.STEPS_SKIPPED, "SkipStep", note)


def node_avoided(host: str) -> Event:
    """A node has failed the job more than once."""
    note = f"Node {host} has failed this job more than once: new pods go elsewhere where they can."
    return Event("Warning", Reason.NODE_AVOIDED, "AvoidNode", note)


def straggler_detected(attempt: int, straggler: Straggler) -> Event:
    """A rank holds the others up."""
    note = (
        f"Rank {straggler.rank} in attempt {attempt} computes slower than the others:"
        " see status.progress.stragglers, and the node it runs on."
    )
    return Event("Warning", Reason.STRAGGLER_DETECTED, "FindStraggler", note)


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


def job_resumed(condition: Condition) -> Event:
    """The job is no longer held."""
    return Event("Normal", Reason.RESUMED, condition.type, condition.message)


def _derive_attempt_events(before: FineTuneJobStatus, after: FineTuneJobStatus) -> Iterator[Event]:
    known = {attempt.number: attempt for attempt in before.attempts}
    former: AttemptStatus | None = None
    for attempt in after.attempts:
        old = known.get(attempt.number)
        if old is None and attempt.nodes:
            yield attempt_began(attempt)
            if former is not None and attempt.micro_batch_size != former.micro_batch_size:
                yield micro_batch_reduced(attempt)
        if attempt.from_step and (old is None or not old.from_step):
            yield attempt_resumed(attempt)
        if attempt.end_time is not None and (old is None or old.end_time is None):
            yield from _tell_end(attempt)
        former = attempt
    yield from _derive_straggler_events(before, after)


def _tell_end(attempt: AttemptStatus) -> Iterator[Event]:
    if attempt.result == "Failed":
        yield attempt_failed(attempt)
    elif attempt.result == "Stopped":
        yield attempt_stopped(attempt)


def _derive_straggler_events(before: FineTuneJobStatus, after: FineTuneJobStatus) -> Iterator[Event]:
    if after.progress is None or not after.attempts:
        return
    same = before.attempts and before.attempts[-1].number == after.attempts[-1].number
    known = {each.rank for each in before.progress.stragglers} if before.progress and same else set()
    for straggler in after.progress.stragglers:
        if straggler.rank not in known:
            yield straggler_detected(after.attempts[-1].number, straggler)


def _derive_suspension_events(before: FineTuneJobStatus, after: FineTuneJobStatus) -> list[Event]:
    old, new = (find_condition(status, names.CONDITION_SUSPENDED) for status in (before, after))
    if new is None or (old is not None and old.reason == new.reason):
        return []
    if new.reason == Reason.RESUMED:
        return [job_resumed(new)]
    # Else the job has ended while it was held, which another event says.
    return [became_true(new)] if new.status == "True" or new.reason == Reason.SUSPENDING else []


def _newly_true(before: FineTuneJobStatus, after: FineTuneJobStatus, type_: str) -> list[Condition]:
    condition = find_condition(after, type_)
    return [condition] if condition and is_true(after, type_) and not is_true(before, type_) else []
