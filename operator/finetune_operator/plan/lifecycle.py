"""The life of a job: one decision from one snapshot.

Reads as the story; the rules of each step stand in a file of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from finetune_contract import names
from finetune_contract.run import Resolved
from finetune_contract.spec import FineTuneJob
from finetune_contract.status import FineTuneJobStatus
from finetune_operator.actions import Actions, Annotate
from finetune_operator.plan import attempt_end, membership
from finetune_operator.plan.announcements import tell_members
from finetune_operator.plan.attempts import find_attempt, note_steps
from finetune_operator.plan.course import run_course
from finetune_operator.plan.ending import end_status, release_pods, wait_for_removal
from finetune_operator.plan.events import Event, derive_events, pods_created
from finetune_operator.plan.holds import find_budget_end
from finetune_operator.plan.members import hear_members
from finetune_operator.plan.numbers import refresh_numbers, wait_for_numbers
from finetune_operator.plan.objects.config import make_config_map
from finetune_operator.plan.objects.network_policy import make_network_policy
from finetune_operator.plan.objects.pod import make_pod
from finetune_operator.plan.phases import is_terminal
from finetune_operator.plan.pods import PodPlan, list_stuck, list_stuck_moments, plan_pods
from finetune_operator.plan.resolve import build_run_config, resolve
from finetune_operator.plan.status import accept, conclude, hear, hear_first_member
from finetune_operator.plan.suspension import list_given_back
from finetune_operator.plan.times import parse_time
from finetune_operator.plan.verdict import Verdict, judge, list_deadline_moments
from finetune_operator.plan.waiting import next_news
from finetune_operator.snapshot import Snapshot


def decide(snapshot: Snapshot, now: float) -> Actions:
    """What shall be done about the job now. Deciding again on the result of the actions asks for nothing more."""
    if snapshot.deleting:
        return Actions()
    if is_terminal(snapshot.status):
        return _close(snapshot, now)
    verdict = judge(snapshot, now)
    if verdict is not None:
        return _end(snapshot, _listen(snapshot, verdict, now), verdict, now)
    assert snapshot.job is not None, "a job without a readable spec has its verdict"
    return _advance(snapshot, snapshot.job, now)


def _close(snapshot: Snapshot, now: float) -> Actions:
    """After the end: let the pods go, then the job, when its time to live is over."""
    release = release_pods(snapshot, snapshot.status, now)
    removal = wait_for_removal(snapshot, now)
    return Actions(
        annotate=release.annotate,
        delete_pods=release.delete_pods,
        force_delete_pods=list_stuck(snapshot, now),
        delete_job=removal == 0.0,
        requeue_after=_soonest(release.wait, removal or None, _find_next(list_stuck_moments(snapshot), now)),
    )


def _listen(snapshot: Snapshot, verdict: Verdict, now: float) -> FineTuneJobStatus:
    """What is known of a job at the moment of its verdict."""
    if snapshot.job is None or not verdict.accepted:
        return snapshot.status
    resolved = snapshot.status.resolved or resolve(snapshot.job)
    return conclude(snapshot, hear(snapshot, accept(snapshot, resolved, now), resolved), None, now)


def _end(snapshot: Snapshot, status: FineTuneJobStatus, verdict: Verdict, now: float) -> Actions:
    """The end: the status first, then the pods are told."""
    if snapshot.job is not None:
        # The end may be heard of another member than the first.
        told = hear_members(snapshot, find_attempt(status))
        status = note_steps(
            status,
            resumed_from=None,
            last_step=max(map(attempt_end.count_steps, told), default=0),
            training_seconds=max(map(attempt_end.measure_training, told), default=0.0),
        )
        status = refresh_numbers(status, hear_first_member(snapshot, status), snapshot.job.spec, now)
    status = end_status(snapshot, status, verdict, now)
    release = release_pods(snapshot, status, now)
    return Actions(
        status=status,
        annotate=release.annotate,
        delete_pods=release.delete_pods,
        force_delete_pods=list_stuck(snapshot, now),
        events=derive_events(snapshot.status, status),
        requeue_after=_soonest(release.wait, _find_next(list_stuck_moments(snapshot), now)),
    )


def _advance(snapshot: Snapshot, job: FineTuneJob, now: float) -> Actions:
    """The job goes on: end, begin and stop attempts, create what is missing, write what is new."""
    resolved = snapshot.status.resolved or resolve(job)
    course = run_course(snapshot, accept(snapshot, resolved, now), job.spec, resolved, now)
    status = conclude(snapshot, course.status, course.hold, now)
    if course.verdict is not None:
        return _end(snapshot, status, course.verdict, now)
    if status != snapshot.status or wait_for_numbers(snapshot.status, now) == 0.0:
        status = refresh_numbers(status, hear_first_member(snapshot, status), job.spec, now)
    if course.hold is None:
        plan = plan_pods(snapshot, status, job.spec, resolved, now)
        objects, created = _make_missing(snapshot, job, status, resolved, plan)
    else:
        plan, objects, created = PodPlan(delete=list_given_back(snapshot, status)), (), ()
    return Actions(
        create=objects,
        status=status if status != snapshot.status else None,
        annotate=(*tell_members(snapshot, status), *_dismiss_prepare_pod(snapshot, status)),
        delete_pods=plan.delete,
        force_delete_pods=list_stuck(snapshot, now),
        events=(*created, *derive_events(snapshot.status, status)),
        requeue_after=_soonest(
            _find_next([*_list_moments(snapshot, status, job, resolved, now), *plan.moments], now),
            next_news(snapshot, now),
        ),
    )


def _make_missing(
    snapshot: Snapshot,
    job: FineTuneJob,
    status: FineTuneJobStatus,
    resolved: Resolved,
    plan: PodPlan,
) -> tuple[tuple[dict[str, Any], ...], tuple[Event, ...]]:
    """Objects that this stage needs and that are not there, with the event that says so."""
    objects = [] if snapshot.has_config else _make_surroundings(snapshot, job, resolved)
    objects += [
        make_pod(
            job,
            resolved,
            snapshot.defaults,
            role=wanted.role,
            node_index=wanted.node_index,
            incarnation=wanted.incarnation,
            avoided_nodes=status.avoided_nodes,
        )
        for wanted in plan.create
    ]
    created = bool(plan.create) and snapshot.rejection is None
    return tuple(objects), (pods_created(plan.create[0].role, len(plan.create)),) if created else ()


def _make_surroundings(snapshot: Snapshot, job: FineTuneJob, resolved: Resolved) -> list[dict[str, Any]]:
    """What is made once, before the first pod; the ConfigMap last, so that where it is the others are."""
    access = snapshot.defaults.network
    policies = [make_network_policy(job, access)] if access is not None else []
    return [*policies, make_config_map(job, build_run_config(job, resolved))]


def _dismiss_prepare_pod(snapshot: Snapshot, status: FineTuneJobStatus) -> tuple[Annotate, ...]:
    pods = [pod for pod in snapshot.pods if pod.role == names.ROLE_PREPARE and pod.is_running and not pod.deleting]
    told = pods if status.data is not None else []
    return tuple(Annotate(pod.key.name, {names.ANNOTATION_FINISH: status.phase}) for pod in told if pod.finish is None)


def _list_moments(
    snapshot: Snapshot, status: FineTuneJobStatus, job: FineTuneJob, resolved: Resolved, now: float
) -> list[float]:
    """Every moment at which time alone may change the decision."""
    spec = job.spec
    budget_end = find_budget_end(status, spec, now)
    return [
        *list_deadline_moments(status, spec),
        *attempt_end.list_moments(snapshot, status, spec.lifecycle.stop_grace_seconds),
        *membership.list_moments(snapshot, status, spec, resolved, now),
        *list_stuck_moments(snapshot),
        *([parse_time(status.retry_time)] if status.retry_time is not None else []),
        *([budget_end] if budget_end is not None else []),
    ]


def _find_next(moments: Iterable[float], now: float) -> float | None:
    return min((moment - now for moment in moments if now < moment < math.inf), default=None)


def _soonest(*seconds: float | None) -> float | None:
    return min((each for each in seconds if each is not None), default=None)
