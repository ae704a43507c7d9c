"""When an attempt starts, who its members are, and what they are told."""

from __future__ import annotations

from finetune_contract import names
from finetune_contract.attempt import Attempt, Endpoint
from finetune_contract.run import Resolved
from finetune_contract.status import AttemptStatus, FineTuneJobStatus
from finetune_operator.actions import Annotate
from finetune_operator.plan.times import format_time
from finetune_operator.snapshot import Pod, Snapshot


def find_attempt(status: FineTuneJobStatus) -> AttemptStatus | None:
    """The attempt under way."""
    last = status.attempts[-1] if status.attempts else None
    return last if last is not None and last.end_time is None else None


def start_attempt(snapshot: Snapshot, status: FineTuneJobStatus, resolved: Resolved, now: float) -> FineTuneJobStatus:
    """The status with a new attempt, if one is due: all members run and can be reached, and none is under way."""
    members = [pod for pod in snapshot.trainers if pod.is_running and not pod.deleting]
    if status.attempts or {pod.node_index for pod in members} != set(range(resolved.nodes)):
        return status
    attempt = AttemptStatus(number=1, start_time=format_time(now), nodes=len(members))
    return status.model_copy(
        update={"attempts": (*status.attempts, attempt), "start_time": status.start_time or attempt.start_time}
    )


def tell_members(snapshot: Snapshot, status: FineTuneJobStatus) -> tuple[Annotate, ...]:
    """The annotation of the attempt under way, for those members that do not carry it yet."""
    attempt = find_attempt(status)
    if attempt is None:
        return ()
    members = [pod for pod in snapshot.trainers if pod.is_running]
    untold = [pod for pod in members if _number_of(pod) != attempt.number]
    if not untold or len(members) != attempt.nodes:
        return ()
    document = make_attempt(attempt.number, members, status).to_json()
    return tuple(Annotate(pod.key.name, {names.ANNOTATION_ATTEMPT: document}) for pod in untold)


def make_attempt(number: int, members: list[Pod], status: FineTuneJobStatus) -> Attempt:
    """What every member is told; the same from the same pods and number."""
    addresses = {pod.node_index: pod.ip for pod in sorted(members, key=lambda pod: pod.node_index)}
    return Attempt(
        number=number,
        members={str(index): ip for index, ip in addresses.items()},
        master=Endpoint(host=addresses[min(addresses)], port=names.master_port(number)),
        checkpoints={
            names.checkpoint_folder(record.step, record.attempt): record.digest
            for record in status.checkpoints
            if record.digest and record.attempt < number
        },
    )


def _number_of(pod: Pod) -> int | None:
    try:
        return Attempt.from_json(pod.attempt).number if pod.attempt else None
    except ValueError:
        # Somebody else wrote into the annotation: the member is told again.
        return None
