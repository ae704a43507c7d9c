"""Which pods a job that has not ended needs, and which of its pods must go.

A node without a usable pod gets a new one at once, whatever becomes of the old one: the names differ. Members of the
attempt under way are never deleted here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from finetune_contract import names
from finetune_contract.run import Resolved
from finetune_contract.spec import FineTuneJobSpec
from finetune_contract.status import FineTuneJobStatus
from finetune_operator.plan.attempt_end import hear_idle_failure, is_silent_between_attempts
from finetune_operator.plan.attempts import find_attempt, find_last_number
from finetune_operator.plan.membership import list_wanted
from finetune_operator.plan.times import parse_time
from finetune_operator.snapshot import Pod, Snapshot

STUCK_SECONDS: Final = 30.0
"""A pod that is still there so long after its grace sits on a node that does not answer."""
AGAIN_SECONDS: Final = 60.0
"""While others train, a pod that ends soon after its creation is replaced at this pace."""


class Wanted(NamedTuple):
    """A pod that is missing."""

    role: str
    node_index: int
    incarnation: int


@dataclass(frozen=True, slots=True)
class PodPlan:
    """What becomes of a job's pods."""

    create: tuple[Wanted, ...] = ()
    delete: tuple[str, ...] = ()
    moments: tuple[float, ...] = ()
    """When time alone may change the plan."""


def plan_pods(
    snapshot: Snapshot, status: FineTuneJobStatus, spec: FineTuneJobSpec, resolved: Resolved, now: float
) -> PodPlan:
    """The pods of a job that may run."""
    role, wanted = choose_role(status, spec, resolved)
    own = [pod for pod in snapshot.pods if pod.role == role and pod.node_index in wanted]
    staying = [pod for pod in own if not pod.deleting and not _must_go(snapshot, status, pod, now)]
    usable = {pod.node_index: pod for pod in staying if pod.is_usable}
    kept = _list_member_names(status) | {pod.key.name for pod in staying if usable.get(pod.node_index, pod) == pod}
    # A prepare pod that did its work stays for its logs.
    left = [pod for pod in snapshot.pods if pod.role in (role, names.ROLE_TRAINER) and not pod.deleting]
    delete = [pod.key.name for pod in left if pod.key.name not in kept]
    resume = _find_creation_time(status)
    if resume is not None and now < resume:
        return PodPlan(delete=tuple(delete), moments=(resume,))
    return PodPlan(
        create=_list_missing(snapshot, status, role, [index for index in wanted if index not in usable]),
        delete=tuple(delete),
        moments=tuple(pod.created + AGAIN_SECONDS for pod in snapshot.trainers),
    )


def choose_role(status: FineTuneJobStatus, spec: FineTuneJobSpec, resolved: Resolved) -> tuple[str, range]:
    """Which pods this stage of the job's life needs: role and node indexes."""
    if resolved.prepare == "pod" and status.data is None:
        return names.ROLE_PREPARE, range(1)
    return names.ROLE_TRAINER, list_wanted(spec, resolved)


def list_stuck(snapshot: Snapshot, now: float) -> tuple[str, ...]:
    """Pods that should be gone: their node does not answer, and waits for nobody."""
    return tuple(pod.key.name for pod in snapshot.pods if now >= _stuck_from(pod))


def list_stuck_moments(snapshot: Snapshot) -> list[float]:
    """When pods that were asked to go would be stuck."""
    return [_stuck_from(pod) for pod in snapshot.pods if pod.deleting]


def _list_missing(snapshot: Snapshot, status: FineTuneJobStatus, role: str, indexes: list[int]) -> tuple[Wanted, ...]:
    incarnation = find_last_number(status)
    taken = {(pod.role, pod.node_index, pod.incarnation) for pod in snapshot.pods}
    missing = [Wanted(role, index, incarnation) for index in indexes]
    # What still has the name must go first.
    return tuple(each for each in missing if each not in taken)


def _must_go(snapshot: Snapshot, status: FineTuneJobStatus, pod: Pod, now: float) -> bool:
    """A pod of a node that is wanted must go all the same."""
    attempt = find_attempt(status)
    if pod.has_ended or hear_idle_failure(snapshot, pod) is not None:
        return attempt is None or now >= pod.created + AGAIN_SECONDS
    return attempt is None and pod.is_usable and is_silent_between_attempts(snapshot, pod, now)


def _list_member_names(status: FineTuneJobStatus) -> set[str]:
    attempt = find_attempt(status)
    return set(attempt.members.values()) if attempt else set()


def _find_creation_time(status: FineTuneJobStatus) -> float | None:
    """Pods that fail before any attempt are created again at the pace of the retries."""
    last = status.attempts[-1] if status.attempts else None
    if last is None or last.nodes or status.retry_time is None:
        return None
    return parse_time(status.retry_time)


def _stuck_from(pod: Pod) -> float:
    return pod.deletion_time + STUCK_SECONDS if pod.deletion_time is not None else float("inf")
