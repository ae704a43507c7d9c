"""The course of a job's attempts: what has ended is closed and judged, what shall stop is stopped, what is due begins.

All in one decision, so that a failed attempt and the next one in the same pods cost one write.
"""

from __future__ import annotations

from dataclasses import dataclass

from finetune_contract import names
from finetune_contract.names import Reason
from finetune_contract.run import Resolved
from finetune_contract.spec import FineTuneJobSpec
from finetune_contract.status import FineTuneJobStatus
from finetune_operator.plan.attempt_end import find_end, find_idle_failure
from finetune_operator.plan.attempts import (
    begin_attempt,
    close_attempt,
    find_attempt,
    record_failure,
    stop_attempt,
)
from finetune_operator.plan.failure import End, apply_retry, choose_micro_batch_size, count_wait, decide_retry
from finetune_operator.plan.holds import Hold, find_hold
from finetune_operator.plan.hosts import note_avoided_nodes
from finetune_operator.plan.membership import choose_members
from finetune_operator.plan.pods import choose_role
from finetune_operator.plan.status import hear
from finetune_operator.plan.stopping import find_stop
from finetune_operator.plan.suspension import fold_suspended
from finetune_operator.plan.usage import count_usage
from finetune_operator.plan.verdict import Verdict, judge_deadlines
from finetune_operator.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Course:
    """Where a job stands after this decision."""

    status: FineTuneJobStatus
    hold: Hold | None = None
    verdict: Verdict | None = None
    """The end of the job; `status` is then what was known before it."""


def run_course(
    snapshot: Snapshot, status: FineTuneJobStatus, spec: FineTuneJobSpec, resolved: Resolved, now: float
) -> Course:
    """The job's attempts after what pods and agents say now; `status` is the accepted one."""
    status = hear(snapshot, status, resolved)
    hold = find_hold(status, spec, now)
    status, verdict = _close(snapshot, status, spec, resolved, hold=hold, now=now)
    if verdict is None and not _is_excused(status, hold):
        verdict = judge_deadlines(status, spec, now)
    if verdict is not None:
        return Course(status, verdict=verdict)
    reason = find_stop(snapshot, status, spec, resolved, hold=hold, now=now)
    if reason is not None:
        status = stop_attempt(status, reason, now)
    status = fold_suspended(snapshot, status, hold, now)
    if hold is None:
        status = _begin(snapshot, status, spec, resolved, now)
    return Course(status, hold)


def _is_excused(status: FineTuneJobStatus, hold: Hold | None) -> bool:
    """A job that is held has no deadline, unless the deadline is why it stops."""
    last = status.attempts[-1] if status.attempts else None
    return hold is not None and (last is None or last.reason != Reason.DEADLINE_EXCEEDED)


def _close(
    snapshot: Snapshot,
    status: FineTuneJobStatus,
    spec: FineTuneJobSpec,
    resolved: Resolved,
    *,
    hold: Hold | None,
    now: float,
) -> tuple[FineTuneJobStatus, Verdict | None]:
    """The status after what has ended, and the verdict where that was the end of the job."""
    end = find_end(snapshot, status, spec.lifecycle.stop_grace_seconds, now)
    if end is not None:
        status = count_usage(close_attempt(status, end, now), spec, now)
        failure = end.failure
    else:
        # The pods of a held job end since they are given back.
        failure = None if hold is not None else find_idle_failure(snapshot, status, now)
        if failure is not None:
            status = record_failure(status, failure, choose_micro_batch_size(status, resolved), spec, now)
    if failure is None:
        return status, None
    what_next = decide_retry(status, spec, resolved)
    if isinstance(what_next, End):
        return status, Verdict(what_next.reason, what_next.message, failure=failure)
    return note_avoided_nodes(apply_retry(status, what_next, now)), None


def _begin(
    snapshot: Snapshot, status: FineTuneJobStatus, spec: FineTuneJobSpec, resolved: Resolved, now: float
) -> FineTuneJobStatus:
    """The status with the next attempt under way, if one is due."""
    role, _ = choose_role(status, spec, resolved)
    if find_attempt(status) is not None or count_wait(status, now) > 0 or role != names.ROLE_TRAINER:
        return status
    members = choose_members(snapshot, status, spec, resolved, now)
    if not members:
        return status
    names_by_index = {pod.node_index: pod.key.name for pod in members}
    return begin_attempt(status, names_by_index, choose_micro_batch_size(status, resolved), spec, now)
