"""From what the API server sends to what the operator keeps: trimmed pods, and the snapshot of one job. Pure."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, overload

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from finetune_contract import names
from finetune_contract.problems import format_problems, list_problems
from finetune_contract.spec import FineTuneJob
from finetune_contract.status import FineTuneJobStatus
from finetune_contract.support import check_support
from finetune_operator.errors import UnreadableError
from finetune_operator.plan.objects.defaults import TrainerDefaults
from finetune_operator.plan.times import parse_time
from finetune_operator.snapshot import Answer, Key, Pod, Snapshot

REMEMBERED: Final = 128
"""Readings at 20 kB that are kept."""
_MOVING: Final = frozenset({"resourceVersion", "managedFields"})
"""What changes with each write of the status."""
SELECTOR = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"
"""Label selector of all objects that jobs own."""


class Owned(NamedTuple):
    """What the operator keeps of a ConfigMap: whose it is."""

    job: str
    job_uid: str
    key: Key


class JobReading(NamedTuple):
    """A job's spec, judged."""

    job: FineTuneJob | None
    problem: str | None = None
    unsupported: str | None = None


def read_job(body: Mapping[str, Any]) -> JobReading:
    """Validate a job as strictly as the API server should have, and say what this version cannot do."""
    metadata = {key: value for key, value in body["metadata"].items() if key not in _MOVING}
    return _read_text(to_json({**body, "metadata": metadata, "status": None}))


@lru_cache(REMEMBERED)
def _read_text(text: bytes) -> JobReading:
    """A reading is a value: of the same text it is the same, and our own write leads to another pass soon."""
    try:
        job = FineTuneJob.from_data(from_json(text))
    except ValidationError as error:
        return JobReading(None, problem=format_problems(list_problems(error)))
    return JobReading(job, unsupported=check_support(job))


def read_status(body: Mapping[str, Any]) -> FineTuneJobStatus:
    """The status as written before; UnreadableError where another version wrote what this one does not know."""
    try:
        return FineTuneJobStatus.from_data(body.get("status") or {})
    except ValidationError as error:
        problems = format_problems(list_problems(error, FineTuneJobStatus))
        raise UnreadableError(f"status cannot be read by this version of the operator: {problems}") from error


def build_snapshot(
    body: Mapping[str, Any],
    pods: Iterable[Pod],
    configs: Iterable[Owned],
    *,
    answers: Mapping[str, Answer],
    defaults: TrainerDefaults,
    listening_since: float = 0.0,
) -> Snapshot:
    """Everything that is known of a job; objects of a former job of the same name are left out."""
    metadata = body["metadata"]
    reading = read_job(body)
    own = [pod for pod in pods if pod.job_uid == metadata["uid"]]
    return Snapshot(
        key=Key(metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        generation=metadata["generation"],
        created=parse_time(metadata["creationTimestamp"]),
        job=reading.job,
        problem=reading.problem,
        unsupported=reading.unsupported,
        status=read_status(body),
        deleting="deletionTimestamp" in metadata,
        has_config=any(config.job_uid == metadata["uid"] for config in configs),
        pods=tuple(sorted(own, key=lambda pod: (pod.role, pod.node_index, pod.incarnation))),
        answers=answers,
        listening_since=listening_since,
        defaults=defaults,
    )


def read_owned(manifest: Mapping[str, Any]) -> Owned:
    """A ConfigMap of a job."""
    metadata = manifest["metadata"]
    labels = metadata.get("labels", {})
    key = Key(_share(metadata["namespace"]), metadata["name"])
    return Owned(_share(labels.get(names.LABEL_JOB, "")), _share(labels.get(names.LABEL_JOB_UID, "")), key)


def read_pod(manifest: Mapping[str, Any]) -> Pod:
    """A pod of a job."""
    metadata, status = manifest["metadata"], manifest.get("status", {})
    labels, annotations = metadata.get("labels", {}), metadata.get("annotations", {})
    container = _container_state(status)
    terminated = container.get("terminated", {})
    reason, message = _explain(status, container)
    deletion = metadata.get("deletionTimestamp")
    return Pod(
        key=Key(_share(metadata["namespace"]), metadata["name"]),
        job=_share(labels.get(names.LABEL_JOB, "")),
        job_uid=_share(labels.get(names.LABEL_JOB_UID, "")),
        role=_share(labels.get(names.LABEL_ROLE, names.ROLE_TRAINER)),
        node_index=int(labels.get(names.LABEL_NODE_INDEX, "0")),
        created=parse_time(metadata["creationTimestamp"]),
        incarnation=int(labels.get(names.LABEL_INCARNATION, "0")),
        host=_share(manifest["spec"].get("nodeName", "")),
        phase=_share(status.get("phase", "Pending")),
        ip=status.get("podIP", ""),
        ready=_condition(status, "Ready").get("status") == "True",
        deletion_time=parse_time(deletion) if deletion else None,
        image=_share(manifest["spec"]["containers"][0].get("image", "")),
        reason=reason,
        message=message,
        exit_code=terminated.get("exitCode"),
        attempt=_share(annotations.get(names.ANNOTATION_ATTEMPT)),
        stop=_share(annotations.get(names.ANNOTATION_STOP)),
        finish=_share(annotations.get(names.ANNOTATION_FINISH)),
    )


@overload
def _share(text: str) -> str: ...
@overload
def _share(text: None) -> None: ...
def _share(text: str | None) -> str | None:
    """The same words in thousands of pods are held once: of a job's pods the attempt alone is kilobytes."""
    return text if text is None else sys.intern(text)


def _explain(status: Mapping[str, Any], container: Mapping[str, Any]) -> tuple[str, str]:
    """Reason and message of what the pod waits for or ended by, nearest cause first."""
    scheduled = _condition(status, "PodScheduled")
    sources = (
        container.get("terminated", {}),
        container.get("waiting", {}),
        scheduled if scheduled.get("status") == "False" else {},
    )
    if status.get("reason"):
        # The kubelet or a controller ended the whole pod (Evicted, NodeLost): what the container says is secondary.
        return status["reason"], status.get("message", "")
    found = next((source for source in sources if source.get("reason")), {})
    return found.get("reason", ""), found.get("message", "")


def _container_state(status: Mapping[str, Any]) -> dict[str, Any]:
    for container in status.get("containerStatuses", []):
        if container["name"] == names.CONTAINER:
            state: dict[str, Any] = container.get("state", {})
            return state
    return {}


def _condition(status: Mapping[str, Any], type_: str) -> dict[str, Any]:
    return next((each for each in status.get("conditions", []) if each["type"] == type_), {})
