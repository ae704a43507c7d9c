"""From the API server's objects to what the operator keeps."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_contract import names
from finetune_contract.status import FineTuneJobStatus
from finetune_operator.errors import UnreadableError
from finetune_operator.jobs import JobCache
from finetune_operator.observation import Owned, build_snapshot, read_job, read_owned, read_pod, read_status
from finetune_operator.plan.objects.defaults import TrainerDefaults
from finetune_operator.plan.times import format_time
from finetune_operator.snapshot import Key, Snapshot
from tests.contract.make import make_data
from tests.control_plane.make import NOW, UID, make_accepted_job, make_answers, make_pod, read_phase

LABELS = {
    names.LABEL_JOB: "spam",
    names.LABEL_JOB_UID: UID,
    names.LABEL_ROLE: "trainer",
    names.LABEL_NODE_INDEX: "0",
}


def make_manifest(status: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "spam-0a1b2-0-0",
            "namespace": "ml",
            "labels": LABELS,
            "creationTimestamp": format_time(NOW),
            **metadata,
        },
        "spec": {"containers": [{"name": "trainer", "image": "trainer:1"}]},
        "status": status or {},
    }


def make_body(version: int = 1, name: str = "spam", namespace: str = "ml", **more: Any) -> dict[str, Any]:
    body = make_data(
        name=name,
        namespace=namespace,
        uid=UID,
        generation=3,
        resourceVersion=str(version),
        creationTimestamp=format_time(NOW),
    )
    return body | more


def test_new_pod_is_read() -> None:
    assert read_pod(make_manifest()) == make_pod()


def test_place_and_incarnation_of_a_pod_are_read() -> None:
    manifest = make_manifest(labels=LABELS | {names.LABEL_INCARNATION: "3"}, name="spam-0a1b2-0-3")
    manifest["spec"]["nodeName"] = "node-b"
    assert read_pod(manifest) == make_pod(incarnation=3, host="node-b")


def test_running_pod_is_read_with_what_it_was_told() -> None:
    annotations = {names.ANNOTATION_ATTEMPT: "{}", names.ANNOTATION_STOP: "s", names.ANNOTATION_FINISH: "f"}
    status = {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [{"name": "trainer", "state": {"running": {}}}],
    }
    manifest = make_manifest(status, annotations=annotations, deletionTimestamp=format_time(NOW))
    assert read_pod(manifest) == make_pod(
        phase="Running", ip="10.0.0.1", ready=True, deletion_time=NOW, attempt="{}", stop="s", finish="f"
    )


def make_container(**state: Any) -> list[dict[str, Any]]:
    return [{"name": "sidecar", "state": {}}, {"name": "trainer", "state": state}]


@pytest.mark.parametrize(
    ("status", "facts"),
    [
        (
            {"containerStatuses": make_container(waiting={"reason": "ErrImagePull", "message": "no such image"})},
            {"reason": "ErrImagePull", "message": "no such image"},
        ),
        (
            {
                "phase": "Failed",
                "containerStatuses": make_container(terminated={"exitCode": 137, "reason": "OOMKilled"}),
            },
            {"phase": "Failed", "reason": "OOMKilled", "exit_code": 137},
        ),
        (
            {
                "phase": "Failed",
                "reason": "Evicted",
                "message": "low on memory",
                "containerStatuses": make_container(terminated={"exitCode": 137, "reason": "Error"}),
            },
            {"phase": "Failed", "reason": "Evicted", "message": "low on memory", "exit_code": 137},
        ),
        (
            {
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"}
                ]
            },
            {"reason": "Unschedulable", "message": "no node"},
        ),
    ],
)
def test_cause_that_is_nearest_is_kept(status: dict[str, Any], facts: dict[str, Any]) -> None:
    assert read_pod(make_manifest(status)) == make_pod(**facts)


def test_config_map_is_read_as_its_jobs() -> None:
    manifest = {"metadata": {"name": "spam-0a1b2-run", "namespace": "ml", "labels": LABELS}, "data": {"big": "x"}}
    assert read_owned(manifest) == Owned("spam", UID, Key("ml", "spam-0a1b2-run"))


def test_spec_is_judged() -> None:
    reading = read_job(make_body())
    assert reading.job is not None
    assert reading.job.spec == make_accepted_job().spec
    assert (reading.problem, reading.unsupported) == (None, None)
    broken = make_body()
    del broken["spec"]["task"]
    reading = read_job(broken)
    assert reading.job is None
    assert reading.problem is not None
    assert reading.problem.startswith("spec.task is missing: add it")
    later = make_body()
    later["metadata"]["labels"] = {names.LABEL_QUEUE: "research"}
    assert read_job(later).unsupported is not None


def test_snapshot_leaves_objects_of_a_former_job_out() -> None:
    body = make_body(status={"phase": "Pending"})
    former = make_pod(1, job_uid="former")
    configs = [Owned("spam", "former", Key("ml", "old"))]
    snapshot = build_snapshot(
        body, [make_pod(1), former, make_pod(0)], configs, answers=make_answers(), defaults=TrainerDefaults()
    )
    assert snapshot == Snapshot(
        key=Key("ml", "spam"),
        uid=UID,
        generation=3,
        created=NOW,
        job=read_job(body).job,
        status=FineTuneJobStatus(),
        pods=(make_pod(0), make_pod(1)),
    )


def test_status_of_another_version_cannot_be_read() -> None:
    with pytest.raises(UnreadableError, match=r"status cannot be read by this version.*unknown"):
        read_status({"status": {"unknown": 1}})


def test_cache_keeps_the_newest_body_without_managed_fields() -> None:
    cache = JobCache(read_phase)
    newer = make_body(2)
    newer["metadata"]["managedFields"] = ["long"]
    assert cache.put(newer) == Key("ml", "spam")
    cache.put(make_body(1, status={"phase": "Failed"}))
    assert cache.get(Key("ml", "spam")) == make_body(2)
    assert (len(cache), cache.list_digests()) == (1, ["Pending"])


def test_ghosts_are_old_jobs_of_the_namespace_that_no_list_holds() -> None:
    cache = JobCache(read_phase)
    for name, namespace, version in (("here", "ml", 1), ("gone", "ml", 2), ("new", "ml", 9), ("far", "prod", 3)):
        cache.put(make_body(version, name, namespace))
    alive = {Key("ml", "here")}
    assert cache.find_ghosts(alive, 5, "ml") == [Key("ml", "gone")]
    assert cache.find_ghosts(alive, 5, None) == [Key("ml", "gone"), Key("prod", "far")]
    cache.remove(Key("ml", "gone"))
    assert cache.find_ghosts(alive, 5, "ml") == []
