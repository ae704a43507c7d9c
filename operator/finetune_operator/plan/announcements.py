"""What the members of the attempt under way are told by annotation: the attempt itself, and its stop."""

from __future__ import annotations

from finetune_contract import names
from finetune_contract.attempt import Attempt, Endpoint, StopRequest
from finetune_contract.exits import FailureClass
from finetune_contract.progress import CheckpointRecord
from finetune_contract.status import AttemptStatus, FineTuneJobStatus
from finetune_operator.actions import Annotate
from finetune_operator.plan.attempts import find_attempt
from finetune_operator.plan.members import list_members
from finetune_operator.snapshot import Pod, Snapshot


def tell_members(snapshot: Snapshot, status: FineTuneJobStatus) -> tuple[Annotate, ...]:
    """The attempt, for those members that do not carry it yet; then its stop, where it was asked for."""
    attempt = find_attempt(status)
    if attempt is None:
        return ()
    members = list_members(snapshot, attempt)
    pods = [member.pod for member in members if member.pod is not None and member.pod.is_running]
    if len(pods) != len(members):
        return _tell_stop(attempt, pods)
    untold = [pod for pod in pods if _read_number(pod) != attempt.number]
    if not untold:
        return _tell_stop(attempt, pods)
    document = make_attempt(attempt, pods, status).to_json()
    told = tuple(Annotate(pod.key.name, {names.ANNOTATION_ATTEMPT: document}) for pod in untold)
    return (*told, *_tell_stop(attempt, pods))


def make_attempt(attempt: AttemptStatus, members: list[Pod], status: FineTuneJobStatus) -> Attempt:
    """What every member is told; the same from the same pods and attempt."""
    addresses = {pod.node_index: pod.ip for pod in sorted(members, key=lambda pod: pod.node_index)}
    return Attempt(
        number=attempt.number,
        members={str(index): ip for index, ip in addresses.items()},
        master=Endpoint(host=addresses[min(addresses)], port=names.master_port(attempt.number)),
        checkpoints={
            names.checkpoint_folder(record.step, record.attempt): record.digest
            for record in status.checkpoints
            if record.digest and record.attempt < attempt.number and not is_tainted(record, status)
        },
        micro_batch_size=attempt.micro_batch_size,
        skip_steps=status.skipped_steps,
    )


def is_tainted(record: CheckpointRecord, status: FineTuneJobStatus) -> bool:
    """It holds the update of a step that was found unusable, and passed over, only later."""
    return any(
        attempt.failure is not None
        and attempt.failure.failure_class is FailureClass.NUMERIC
        and attempt.failure.step in status.skipped_steps
        and record.attempt <= attempt.number
        and record.step >= attempt.failure.step
        for attempt in status.attempts
    )


def _tell_stop(attempt: AttemptStatus, pods: list[Pod]) -> tuple[Annotate, ...]:
    if attempt.stop_time is None or attempt.reason is None:
        return ()
    request = StopRequest(attempt=attempt.number, reason=attempt.reason).to_json()
    return tuple(
        Annotate(pod.key.name, {names.ANNOTATION_STOP: request})
        for pod in pods
        if pod.stop != request and not pod.has_ended
    )


def _read_number(pod: Pod) -> int | None:
    try:
        return Attempt.from_json(pod.attempt).number if pod.attempt else None
    except ValueError:
        # Somebody else wrote into the annotation: the member is told again.
        return None
