"""A world in memory that obeys: what a decision asks for is so in the next snapshot. For tests of plan/ alone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from finetune_contract import names
from finetune_contract.status import FineTuneJobStatus
from finetune_operator.actions import Actions, Annotate
from finetune_operator.observation import read_pod
from finetune_operator.plan.lifecycle import decide
from finetune_operator.plan.times import format_time
from finetune_operator.snapshot import Answer, Pod, Snapshot
from tests.control_plane.make import IPS, make_answers


def obey(snapshot: Snapshot, actions: Actions, now: float) -> Snapshot:
    """The snapshot after all actions succeeded."""
    created = [_read_created(manifest, now) for manifest in actions.create if manifest["kind"] == "Pod"]
    gone = (*actions.delete_pods, *actions.force_delete_pods)
    pods = [pod for pod in (*snapshot.pods, *created) if pod.key.name not in gone]
    for told in actions.annotate:
        pods = [_annotate(pod, told) for pod in pods]
    return replace(
        snapshot,
        status=_write(actions.status) if actions.status is not None else snapshot.status,
        has_config=snapshot.has_config or any(each["kind"] == "ConfigMap" for each in actions.create),
        pods=tuple(sorted(pods, key=lambda pod: (pod.role, pod.node_index, pod.incarnation))),
    )


def step(snapshot: Snapshot, now: float) -> Snapshot:
    """Decide once and obey."""
    return obey(snapshot, decide(snapshot, now), now)


def run_pods(snapshot: Snapshot) -> Snapshot:
    """All pods come up."""
    return replace(snapshot, pods=tuple(_run(pod) for pod in snapshot.pods))


def hear(snapshot: Snapshot, *answers: Answer, incarnation: int = 0) -> Snapshot:
    """Agents said something."""
    return replace(snapshot, answers={**snapshot.answers, **make_answers(*answers, incarnation=incarnation)})


def asks_for_nothing(actions: Actions) -> bool:
    """Nothing is to be done, apart from looking again later."""
    return replace(actions, requeue_after=None) == Actions()


def _write(status: FineTuneJobStatus) -> FineTuneJobStatus:
    """The status as the API server gives it back: maps sorted by their keys."""
    return FineTuneJobStatus.from_data(json.loads(json.dumps(status.to_data(), sort_keys=True)))


def _run(pod: Pod) -> Pod:
    return replace(pod, phase="Running", ip=IPS[pod.node_index], ready=True) if pod.phase == "Pending" else pod


def _read_created(manifest: dict[str, Any], now: float) -> Pod:
    metadata = manifest["metadata"] | {"creationTimestamp": format_time(now)}
    return read_pod(manifest | {"metadata": metadata})


def _annotate(pod: Pod, told: Annotate) -> Pod:
    if pod.key.name != told.pod:
        return pod
    fields = {names.ANNOTATION_ATTEMPT: "attempt", names.ANNOTATION_STOP: "stop", names.ANNOTATION_FINISH: "finish"}
    changes: dict[str, Any] = {fields[name]: value for name, value in told.annotations.items()}
    return replace(pod, **changes)
