"""Which nodes a job wants, and when those that run are enough to begin an attempt; `resources.elastic` lives here."""

from __future__ import annotations

from typing import Final

from finetune_contract import names
from finetune_contract.run import Resolved
from finetune_contract.spec import FineTuneJobSpec
from finetune_contract.status import FineTuneJobStatus
from finetune_operator.plan.attempt_end import hear_idle_failure
from finetune_operator.plan.attempts import find_attempt
from finetune_operator.plan.conditions import find_condition
from finetune_operator.plan.members import find_last_word, hear_members, list_members
from finetune_operator.plan.times import parse_time
from finetune_operator.snapshot import Pod, Snapshot

ANSWER_SECONDS: Final = 10.0
"""No attempt begins with an agent that has been silent for longer."""
ASK_SECONDS: Final = 3.0
"""The pace at which agents are asked."""
SETTLED_SECONDS: Final = 10.0
"""A node that came back has to idle for so long before the others stop for it."""


def list_wanted(spec: FineTuneJobSpec, resolved: Resolved) -> range:
    """Node indexes that shall have a pod."""
    elastic = spec.resources.elastic
    return range(elastic.max_nodes if elastic else resolved.nodes)


def choose_members(
    snapshot: Snapshot, status: FineTuneJobStatus, spec: FineTuneJobSpec, resolved: Resolved, now: float
) -> tuple[Pod, ...]:
    """The pods with which an attempt can begin now, by node index; none while too few run."""
    ready = list_ready(snapshot, spec, resolved, now)
    count = len(ready)
    elastic = spec.resources.elastic
    if elastic is None:
        return ready if count == resolved.nodes else ()
    enough = min(max(resolved.nodes, elastic.min_nodes), elastic.max_nodes)
    patient = now < _find_patience_end(status, elastic.patience_seconds)
    return ready if count >= (enough if patient else elastic.min_nodes) else ()


def list_ready(snapshot: Snapshot, spec: FineTuneJobSpec, resolved: Resolved, now: float) -> tuple[Pod, ...]:
    """One pod for each wanted node that runs and whose agent answers."""
    newest = {pod.node_index: pod for pod in snapshot.trainers if _is_ready(snapshot, pod, now)}
    return tuple(newest[index] for index in list_wanted(spec, resolved) if index in newest)


def is_silent(snapshot: Snapshot, pod: Pod, now: float) -> bool:
    """Its agent has answered before, and does so no more: no attempt begins with it."""
    return pod.key.name in snapshot.answers and now >= find_last_word(snapshot, pod) + ANSWER_SECONDS


def has_grown(
    snapshot: Snapshot, status: FineTuneJobStatus, spec: FineTuneJobSpec, resolved: Resolved, now: float
) -> bool:
    """More nodes run than train, for a while, and the attempt has come so far that stopping it is no waste."""
    attempt = find_attempt(status)
    if attempt is None or spec.resources.elastic is None or not _has_made_a_step(snapshot, status):
        return False
    idle = _list_idle(snapshot, status, spec, resolved, now)
    return any(now >= since + SETTLED_SECONDS for since in idle)


def has_shrunk(status: FineTuneJobStatus, spec: FineTuneJobSpec, resolved: Resolved) -> bool:
    """Nodes train that are no longer wanted."""
    attempt = find_attempt(status)
    wanted = list_wanted(spec, resolved)
    return attempt is not None and any(int(index) not in wanted for index in attempt.members)


def list_moments(
    snapshot: Snapshot, status: FineTuneJobStatus, spec: FineTuneJobSpec, resolved: Resolved, now: float
) -> list[float]:
    """Moments at which time alone may change who takes part."""
    if find_attempt(status) is None:
        awaited = [pod for pod in snapshot.trainers if pod.is_usable and pod.is_running]
        # An agent that answers again wakes nobody.
        again = [now + ASK_SECONDS for pod in awaited if is_silent(snapshot, pod, now)]
        elastic = spec.resources.elastic
        return [*again, *([_find_patience_end(status, elastic.patience_seconds)] if elastic else [])]
    if spec.resources.elastic is None:
        return []
    return [since + SETTLED_SECONDS for since in _list_idle(snapshot, status, spec, resolved, now)]


def find_pods_wanted(status: FineTuneJobStatus) -> float | None:
    """Since when pods are awaited for the job, or for its resumption; None once an attempt has begun with them.

    Waiting ends with the first attempt, not with its restarts; what preparation takes is no waiting.
    """
    resumed = find_condition(status, names.CONDITION_SUSPENDED)
    moments = [parse_time(resumed.last_transition_time)] if resumed is not None else []
    begun = [parse_time(attempt.start_time) for attempt in status.attempts if attempt.nodes]
    if begun and (not moments or begun[-1] >= moments[0]):
        return None
    if status.phase == "Preparing" or (resumed is not None and resumed.status == "True"):
        return None
    type_ = names.CONDITION_DATA_READY if status.data is not None else names.CONDITION_ACCEPTED
    condition = find_condition(status, type_)
    return max([*moments, *([parse_time(condition.last_transition_time)] if condition else [])], default=None)


def _find_patience_end(status: FineTuneJobStatus, patience: float) -> float:
    ended = [parse_time(attempt.end_time) for attempt in status.attempts if attempt.end_time is not None]
    wanted = find_pods_wanted(status)
    return max([*ended[-1:], *([wanted] if wanted is not None else [])], default=0.0) + patience


def _list_idle(
    snapshot: Snapshot, status: FineTuneJobStatus, spec: FineTuneJobSpec, resolved: Resolved, now: float
) -> list[float]:
    """Since when pods that run do not take part in the attempt under way."""
    attempt = find_attempt(status)
    assert attempt is not None, "nobody idles while nobody trains"
    members = {member.name for member in list_members(snapshot, attempt)}
    outside = [pod for pod in list_ready(snapshot, spec, resolved, now) if pod.key.name not in members]
    answers = [snapshot.answers.get(pod.key.name) for pod in outside]
    return [answer.since for answer in answers if answer is not None]


def _has_made_a_step(snapshot: Snapshot, status: FineTuneJobStatus) -> bool:
    heard = hear_members(snapshot, find_attempt(status))
    return any(each.step.first_step_at is not None for each in heard)


def _is_ready(snapshot: Snapshot, pod: Pod, now: float) -> bool:
    fit = pod.is_running and not pod.deleting and hear_idle_failure(snapshot, pod) is None
    return fit and not is_silent(snapshot, pod, now)
