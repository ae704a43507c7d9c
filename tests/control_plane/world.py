"""A world in memory that obeys: what a decision asks for is so in the next snapshot. For tests of plan/ alone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from finetune_contract import names
from finetune_contract.progress import CheckpointRecord
from finetune_contract.status import FineTuneJobStatus
from finetune_operator.actions import Actions, Annotate
from finetune_operator.observation import read_pod
from finetune_operator.plan.lifecycle import decide
from finetune_operator.plan.times import format_time
from finetune_operator.snapshot import Answer, Pod, Snapshot
from tests.control_plane.make import IPS, NOW, make_answer, make_answers, make_snapshot, make_step


def obey(snapshot: Snapshot, actions: Actions, now: float, *, grace: float | None = None) -> Snapshot:
    """The snapshot after all actions succeeded; with a grace, pods that run are still there when they are deleted."""
    created = [_read_created(manifest, now) for manifest in actions.create if manifest["kind"] == "Pod"]
    pods = [pod for pod in (*snapshot.pods, *created) if pod.key.name not in actions.force_delete_pods]
    staying = [_delete(pod, now, grace) if pod.key.name in actions.delete_pods else pod for pod in pods]
    pods = [pod for pod in staying if pod is not None]
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


def make_training(spec: dict[str, Any] | None = None, *, checkpoints: tuple[CheckpointRecord, ...] = ()) -> Snapshot:
    """A job on two nodes whose first attempt has made five steps."""
    snapshot = step(run_pods(step(make_snapshot({"resources": {"nodes": 2}, **(spec or {})}), NOW)), NOW)
    first = make_answer(step=make_step(), checkpoints=checkpoints)
    return step(hear(snapshot, first, make_answer(node=1)), NOW + 20)


def read_conditions(status: FineTuneJobStatus) -> dict[str, tuple[str, str]]:
    """Type -> status and reason."""
    return {each.type: (each.status, each.reason) for each in status.conditions}


def read_message(status: FineTuneJobStatus, type_: str) -> str:
    """What a condition says."""
    return next(each.message for each in status.conditions if each.type == type_)


def list_created(actions: Actions) -> list[str]:
    """What a decision wants created."""
    return [f"{each['kind']}/{each['metadata']['name']}" for each in actions.create]


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


def _delete(pod: Pod, now: float, grace: float | None) -> Pod | None:
    if grace is None or pod.phase != "Running":
        return None
    return replace(pod, deletion_time=pod.deletion_time or now + grace)


def _annotate(pod: Pod, told: Annotate) -> Pod:
    if pod.key.name != told.pod:
        return pod
    fields = {names.ANNOTATION_ATTEMPT: "attempt", names.ANNOTATION_STOP: "stop", names.ANNOTATION_FINISH: "finish"}
    changes: dict[str, Any] = {fields[name]: value for name, value in told.annotations.items()}
    return replace(pod, **changes)
