"""What a cluster can refuse, and what a user can do to a job: each is said in the status, and goes on when mended."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.drills.cluster.drill_ground import DrillGround
from tests.drills.cluster.make import make_drill_job, make_sabotaged_pod
from tests.drills.cluster.watched_job import WatchedJob, condition
from tests.drills.table import Drill, Sighting, rehearse
from tests.endtoend.make import BUCKET
from tests.waiting import wait_for

SAID_SECONDS = 90
LATE_ROW = 5000


@pytest.fixture
def ground(drill_ground: DrillGround) -> Iterator[DrillGround]:
    """Empty before and after every drill."""
    yield drill_ground
    drill_ground.clear()


def _apply(ground: DrillGround, name: str, **changes: Any) -> WatchedJob:
    ground.kubectl.apply(make_drill_job(name, **changes))
    return WatchedJob(ground, name)


def _await_words(job: WatchedJob, *words: str) -> str:
    """Wait until some condition that is not True, or an event of the job, says all of these words."""

    def said() -> str | None:
        texts = [each["message"] for each in job.look().status.get("conditions", [])]
        return next((text for text in texts if all(word in text for word in words)), None)

    return wait_for(said, f"{job.name}: a condition says {words}", seconds=SAID_SECONDS)


def _await_recovery(job: WatchedJob, sighting: Sighting, said: str) -> None:
    mended = time.time()
    sighting.recovery_seconds = job.await_training() - mended
    sighting.seen = said[:150]
    job.await_status(lambda status: status["phase"] == "Running", "says that it runs")


IMAGE = Drill("image missing", "spec.pod.image does not exist", "said with the image's name; no restart storm")


def test_an_image_that_is_missing_is_said(ground: DrillGround) -> None:
    with rehearse(IMAGE) as sighting:
        job = _apply(ground, "image", pod=make_sabotaged_pod(image="localhost/nobody/has-this:1"))
        sighting.seen = _await_words(job, "localhost/nobody/has-this:1")[:150]
        incarnations = {
            pod["metadata"]["labels"]["finetune.dev/incarnation"]
            for pod in ground.kubectl.list("pods", f"finetune.dev/job={job.name}")
        }
        assert incarnations == {"0"}
        assert condition(job.look().status, "Running").get("status") != "True"


SCHEDULE = Drill("unschedulable", "the node is cordoned, then uncordoned", "said in the scheduler's words, then runs")


def test_pods_that_find_no_node_are_said_and_start_when_there_is_one(ground: DrillGround) -> None:
    with rehearse(SCHEDULE) as sighting:
        ground.system("cordon", "-l", "kubernetes.io/hostname")
        try:
            job = _apply(ground, "schedule")
            said = _await_words(job, "unschedulable")
        finally:
            ground.system("uncordon", "-l", "kubernetes.io/hostname")
        _await_recovery(job, sighting, said)


QUOTA = Drill("quota refused", "a ResourceQuota of one pod, then lifted", "said in the API server's words, then runs")


def test_a_quota_that_refuses_a_pod_is_said_and_the_job_starts_when_it_is_lifted(ground: DrillGround) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "one"}, "spec": {"hard": {"pods": "1"}}}
    with rehearse(QUOTA) as sighting:
        ground.kubectl.apply(quota)
        try:
            job = _apply(ground, "quota")
            said = _await_words(job, "quota")
        finally:
            ground.kubectl("delete", "resourcequota", "one")
        _await_recovery(job, sighting, said)


ROW = Drill("bad row late", f"row {LATE_ROW} of the training data has no label", "ends at once, names file and row")


def test_a_bad_row_late_in_the_data_ends_the_job_by_name(ground: DrillGround) -> None:
    lines = (ground.spam / "train.jsonl").read_text(encoding="utf-8").splitlines()
    lines[LATE_ROW - 1] = json.dumps({"text": "no label here"})
    ground.bucket.write(f"s3://{BUCKET}/spam/bad.jsonl", "\n".join(lines).encode())
    data = {"train": {"source": f"s3://{BUCKET}/spam/bad.jsonl"}, "columns": {"text": "text", "label": "label"}}
    with rehearse(ROW) as sighting:
        job = _apply(ground, "row", data=data)
        after = job.await_status(lambda status: status["phase"] == "Failed", "fails", seconds=SAID_SECONDS)
        sighting.seen = condition(after.status, "Failed")["message"][:150]
        assert str(LATE_ROW) in sighting.seen
        assert "bad.jsonl" in sighting.seen
        assert after.status["failure"]["failureClass"] == "User"
        assert len(after.status["attempts"]) == 1


AGAIN = Drill("applied again at once", "kubectl delete --wait=false, the same name applied", "a new job from step 0")


def test_a_name_deleted_and_applied_again_at_once_is_a_new_job(ground: DrillGround) -> None:
    with rehearse(AGAIN) as sighting:
        job = _apply(ground, "again")
        job.await_training()
        old = ground.kubectl.get("ftj", job.name)["metadata"]["uid"]
        ground.kubectl("delete", "ftj", job.name, "--wait=false")
        wait_for(lambda: _apply_anew(ground, job.name, old), "the old object is gone", seconds=60)
        began = time.time()
        sighting.recovery_seconds = job.await_training() - began
        after = job.look()
        new = ground.kubectl.get("ftj", job.name)["metadata"]["uid"]
        assert {pod["metadata"]["labels"]["finetune.dev/job-uid"] for pod in after.pods.values()} == {new}
        assert [(entry["number"], entry["fromStep"]) for entry in after.status["attempts"]] == [(1, 0)]
        sighting.seen, sighting.lost_steps = "attempt 1 from step 0, pods of the new uid alone", 0
        wait_for(
            lambda: len(ground.kubectl.list("pods", f"finetune.dev/job={job.name}")) == 2,
            "the old pods go",
            seconds=120,
        )


def _apply_anew(ground: DrillGround, name: str, old: str) -> bool:
    """Apply as soon as the old object is gone (until then, apply would only change what is about to go)."""
    found = json.loads(ground.kubectl("get", "ftj", "-o", "json"))["items"]
    if any(item["metadata"]["uid"] == old for item in found):
        return False
    ground.kubectl.apply(make_drill_job(name))
    return True


MEMORY = Drill("host memory", "a worker eats the pod's memory", "half the micro-batch, the pods stay")
CONTAINER_MEMORY = Drill(
    "container memory", "the agent eats the pod's memory", "half the micro-batch, the pod is replaced"
)


@pytest.mark.drill
@pytest.mark.parametrize(
    ("drill", "eater", "replaced"),
    [(MEMORY, "worker", False), (CONTAINER_MEMORY, "agent", True)],
    ids=["worker", "agent"],
)
def test_both_forms_of_running_out_of_memory_go_on_with_less(
    ground: DrillGround, drill: Drill, eater: str, replaced: bool
) -> None:
    with rehearse(drill) as sighting:
        job = _apply(ground, f"memory-{eater}")
        job.await_training()
        job.await_checkpoint(0)
        before = job.look()
        process = job.worker(1) if eater == "worker" else job.agent(1)
        began = time.time()
        process.sabotage("memory")
        sighting.recovery_seconds = job.await_training(2) - began
        after = job.look()
        ended, begun = after.attempt_entry(1), after.attempt_entry(2)
        sighting.seen, sighting.lost_steps = (
            f"{ended['reason']}, micro-batch {begun['microBatchSize']}",
            ended["lostSteps"],
        )
        assert ended["failure"]["failureClass"] == "OutOfMemory", ended
        assert begun["microBatchSize"] == 2
        assert (after.uids[1] != before.uids[1]) == replaced
        assert after.uids[0] == before.uids[0]
