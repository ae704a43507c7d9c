"""The life of a job: one decision from one snapshot.

Reads as the story; the rules of each step stand in a file of its own.
"""

from __future__ import annotations

from typing import Any, Final

from finetune_contract import names
from finetune_contract.run import Resolved
from finetune_contract.spec import FineTuneJob
from finetune_contract.status import FineTuneJobStatus
from finetune_operator.actions import Actions, Annotate
from finetune_operator.plan.attempts import find_attempt, start_attempt, tell_members
from finetune_operator.plan.ending import end_status, release_pods, wait_for_removal
from finetune_operator.plan.events import Event, derive_events, pods_created
from finetune_operator.plan.numbers import refresh_numbers, wait_for_numbers
from finetune_operator.plan.objects.config import make_config_map
from finetune_operator.plan.objects.pod import make_pod
from finetune_operator.plan.phases import is_terminal
from finetune_operator.plan.resolve import build_run_config, resolve
from finetune_operator.plan.status import accept, fold, hear_first_node
from finetune_operator.plan.verdict import Verdict, judge, next_deadline
from finetune_operator.plan.waiting import next_news
from finetune_operator.snapshot import Snapshot

STALLED_SECONDS: Final = 5.0
"""How often figures that have stood still for a while are looked at again."""


def decide(snapshot: Snapshot, now: float) -> Actions:
    """What shall be done about the job now. Deciding again on the result of the actions asks for nothing more."""
    if snapshot.deleting:
        return Actions()
    if is_terminal(snapshot.status):
        return _close(snapshot, now)
    verdict = judge(snapshot, now)
    if verdict is not None:
        return _end(snapshot, verdict, now)
    assert snapshot.job is not None, "a job without a readable spec has its verdict"
    return _advance(snapshot, snapshot.job, now)


def _close(snapshot: Snapshot, now: float) -> Actions:
    """After the end: let the pods go, then the job, when its time to live is over."""
    release = release_pods(snapshot, snapshot.status, now)
    removal = wait_for_removal(snapshot, now)
    return Actions(
        annotate=release.annotate,
        delete_pods=release.delete_pods,
        delete_job=removal == 0.0,
        requeue_after=_soonest(release.wait, removal or None),
    )


def _end(snapshot: Snapshot, verdict: Verdict, now: float) -> Actions:
    """The end: the status first, then the pods are told."""
    status = snapshot.status
    if snapshot.job is not None and verdict.accepted:
        resolved = status.resolved or resolve(snapshot.job)
        status = fold(snapshot, accept(snapshot, resolved, now), resolved, now)
        status = refresh_numbers(status, hear_first_node(snapshot, status), snapshot.job.spec, now)
    status = end_status(snapshot, status, verdict, now)
    release = release_pods(snapshot, status, now)
    return Actions(
        status=status,
        annotate=release.annotate,
        delete_pods=release.delete_pods,
        events=derive_events(snapshot.status, status),
        requeue_after=release.wait,
    )


def _advance(snapshot: Snapshot, job: FineTuneJob, now: float) -> Actions:
    """The job goes on: create what is missing, start the attempt that is due, write what is new."""
    resolved = snapshot.status.resolved or resolve(job)
    status = accept(snapshot, resolved, now)
    status = start_attempt(snapshot, status, resolved, now)
    status = fold(snapshot, status, resolved, now)
    wait = wait_for_numbers(snapshot.status, now)
    if status != snapshot.status or wait == 0.0:
        status = refresh_numbers(status, hear_first_node(snapshot, status), job.spec, now)
    objects, created = _list_missing(snapshot, job, status, resolved)
    return Actions(
        create=objects,
        status=status if status != snapshot.status else None,
        annotate=(*tell_members(snapshot, status), *_dismiss_prepare_pod(snapshot, status)),
        events=(*created, *derive_events(snapshot.status, status)),
        requeue_after=_soonest(next_deadline(snapshot, now), next_news(snapshot, now), _wait_for_figures(status, wait)),
    )


def _list_missing(
    snapshot: Snapshot, job: FineTuneJob, status: FineTuneJobStatus, resolved: Resolved
) -> tuple[tuple[dict[str, Any], ...], tuple[Event, ...]]:
    """Objects that this stage needs and that are not there, with the event that says so."""
    objects = [] if snapshot.has_config else [make_config_map(job, build_run_config(job, resolved))]
    if find_attempt(status) is not None:
        return tuple(objects), ()
    if resolved.prepare == "pod" and status.data is None:
        role, wanted, present = names.ROLE_PREPARE, {0}, {0} if snapshot.prepare_pod else set()
    else:
        role, wanted = names.ROLE_TRAINER, set(range(resolved.nodes))
        present = {pod.node_index for pod in snapshot.trainers}
    missing = sorted(wanted - present)
    objects += [make_pod(job, resolved, snapshot.defaults, role=role, node_index=index) for index in missing]
    created = bool(missing) and snapshot.rejection is None
    return tuple(objects), (pods_created(role, len(missing)),) if created else ()


def _dismiss_prepare_pod(snapshot: Snapshot, status: FineTuneJobStatus) -> tuple[Annotate, ...]:
    pod = snapshot.prepare_pod
    if pod is None or status.data is None or not pod.is_running or pod.finish is not None:
        return ()
    return (Annotate(pod.key.name, {names.ANNOTATION_FINISH: status.phase}),)


def _wait_for_figures(status: FineTuneJobStatus, wait: float) -> float | None:
    """While an attempt is under way its figures move without waking anybody."""
    return max(wait, STALLED_SECONDS) if find_attempt(status) is not None else None


def _soonest(*seconds: float | None) -> float | None:
    return min((each for each in seconds if each is not None), default=None)
