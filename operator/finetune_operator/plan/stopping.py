"""Why the attempt under way shall stop with a checkpoint. The wish is written into the attempt, then told.

One that was written stands: a stop that is taken back is finished all the same, and the next attempt follows.
"""

from __future__ import annotations

from finetune_contract.names import Reason
from finetune_contract.run import Resolved
from finetune_contract.spec import FineTuneJobSpec
from finetune_contract.status import FineTuneJobStatus
from finetune_operator.plan.attempts import find_attempt
from finetune_operator.plan.holds import Hold
from finetune_operator.plan.members import LEAVING_SILENCE_SECONDS, find_last_word, list_members
from finetune_operator.plan.membership import has_grown, has_shrunk
from finetune_operator.plan.times import parse_time
from finetune_operator.snapshot import Pod, Snapshot


def find_stop(
    snapshot: Snapshot,
    status: FineTuneJobStatus,
    spec: FineTuneJobSpec,
    resolved: Resolved,
    *,
    hold: Hold | None,
    now: float,
) -> str | None:
    """The reason to stop the attempt under way; None where it shall go on."""
    if find_attempt(status) is None:
        return None
    if is_overdue(status, spec, now):
        return Reason.DEADLINE_EXCEEDED
    if hold is not None:
        return hold.reason
    if _is_drained(snapshot, status, now):
        return Reason.POD_DRAINED
    if has_shrunk(status, spec, resolved):
        return Reason.NODES_SHRUNK
    return Reason.NODES_GROWN if has_grown(snapshot, status, spec, resolved, now) else None


def find_deadline(status: FineTuneJobStatus, spec: FineTuneJobSpec) -> float | None:
    """When the job has run too long; None where it may run for ever, or does not run."""
    limit = spec.lifecycle.active_deadline_seconds
    return None if limit is None or status.start_time is None else parse_time(status.start_time) + limit


def is_overdue(status: FineTuneJobStatus, spec: FineTuneJobSpec, now: float) -> bool:
    """The job has run too long."""
    deadline = find_deadline(status, spec)
    return deadline is not None and now >= deadline


def _is_drained(snapshot: Snapshot, status: FineTuneJobStatus, now: float) -> bool:
    """A member was asked to go, has time left, and its agent still lives: it saves with the others."""
    attempt = find_attempt(status)
    members = list_members(snapshot, attempt) if attempt else ()
    pods = [member.pod for member in members if member.pod is not None and not member.pod.has_ended]
    return any(_has_time(pod, now) and now < find_last_word(snapshot, pod) + LEAVING_SILENCE_SECONDS for pod in pods)


def _has_time(pod: Pod, now: float) -> bool:
    return pod.deletion_time is not None and now < pod.deletion_time
