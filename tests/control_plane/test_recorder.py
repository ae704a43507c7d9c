"""Events: what is written, once, again, too often, and when nobody answers."""

from __future__ import annotations

import subprocess
from collections import Counter
from typing import Any

import pytest

from finetune_contract import names
from finetune_operator.clients.cluster import EVENTS, Cluster
from finetune_operator.errors import UnavailableError
from finetune_operator.plan.events import Event
from finetune_operator.recorder import AGAIN_SECONDS, BURST, Recorder, make_event
from finetune_operator.snapshot import Key
from tests.contract.make import make_data
from tests.contract.server import JOBS, Server
from tests.control_plane.faults import FakeCluster
from tests.control_plane.make import UID
from tests.ground import binaries

KEY = Key("ml", "spam")
EVENT = Event("Warning", "PodLost", "Failed", "a pod was lost")
MOMENT = "2027-01-15T08:00:00.000000Z"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def make_recorder(cluster: FakeCluster, counts: Counter[tuple[str, str]] | None = None, clock: Any = None) -> Recorder:
    def count(type_: str, reason: str) -> None:
        if counts is not None:
            counts[type_, reason] += 1

    return Recorder(cluster, "operator-1", count, clock or Clock())


def list_notes(cluster: FakeCluster) -> list[str]:
    return [value["note"] for (plural, _), value in cluster.objects.items() if plural == EVENTS.plural]


def test_event_is_about_its_job() -> None:
    manifest = make_event(KEY, UID, EVENT, "operator-1", MOMENT)
    name = manifest["metadata"].pop("name")
    assert name.startswith("spam.")
    assert manifest == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"namespace": "ml"},
        "regarding": {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": "spam",
            "namespace": "ml",
            "uid": UID,
        },
        "type": "Warning",
        "reason": "PodLost",
        "action": "Failed",
        "note": "a pod was lost",
        "eventTime": MOMENT,
        "reportingController": "finetune.dev/finetune-operator",
        "reportingInstance": "operator-1",
    }


async def test_same_event_again_becomes_a_series_of_one_object() -> None:
    cluster = FakeCluster()
    recorder = make_recorder(cluster)
    for _ in range(3):
        await recorder.record(KEY, UID, EVENT)
    events = [value for (plural, _), value in cluster.objects.items() if plural == EVENTS.plural]
    assert [event["series"]["count"] for event in events] == [3]


async def test_event_that_cannot_be_written_stops_nothing() -> None:
    cluster = FakeCluster()
    cluster.failures = [UnavailableError("away"), UnavailableError("away")]
    await make_recorder(cluster).record(KEY, UID, EVENT)
    assert cluster.objects == {}


@pytest.mark.parametrize("carried_out", [False, True])
async def test_event_whose_answer_got_lost_is_said_once(carried_out: bool) -> None:
    cluster = FakeCluster()
    if carried_out:
        cluster.store(EVENTS, make_event(KEY, UID, EVENT, "operator-1", MOMENT))
    cluster.failures = [UnavailableError("reset")]
    await make_recorder(cluster).record(KEY, UID, EVENT)
    (written,) = cluster.objects.values()
    assert "series" not in written


async def test_what_a_job_says_too_often_is_dropped_and_allowed_again_later() -> None:
    cluster, counts, clock = FakeCluster(), Counter[tuple[str, str]](), Clock()
    recorder = make_recorder(cluster, counts, clock)
    for step in range(BURST + 3):
        await recorder.record(KEY, UID, Event("Normal", "CheckpointVerified", "Checkpoint", f"step {step}"))
    assert list_notes(cluster) == [f"step {step}" for step in range(BURST)]
    clock.now += AGAIN_SECONDS
    for step in (100, 101):
        await recorder.record(KEY, UID, Event("Normal", "CheckpointVerified", "Checkpoint", f"step {step}"))
    assert list_notes(cluster)[BURST:] == ["step 100"]
    assert counts == {("Normal", "CheckpointVerified"): BURST + 1}


async def test_other_reasons_and_other_jobs_may_still_speak() -> None:
    cluster = FakeCluster()
    recorder = make_recorder(cluster)
    for step in range(BURST + 1):
        await recorder.record(KEY, UID, Event("Normal", "CheckpointVerified", "Checkpoint", f"step {step}"))
    await recorder.record(KEY, UID, Event("Normal", "Published", "Succeeded", "done"))
    await recorder.record(Key("ml", "ham"), "1", Event("Normal", "CheckpointVerified", "Checkpoint", "other"))
    assert list_notes(cluster)[BURST:] == ["done", "other"]


async def test_event_that_was_not_written_is_not_counted() -> None:
    cluster, counts = FakeCluster(), Counter[tuple[str, str]]()
    cluster.failures = [UnavailableError("away"), UnavailableError("away")]
    await make_recorder(cluster, counts).record(KEY, UID, EVENT)
    assert counts == {}


async def test_kubectl_describe_shows_an_event_and_how_often_it_was_said(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the real API server, which validates a series; once more after a restart of the operator."""
    created = server.create(make_data(name="told"))
    assert created.accepted, created.message
    uid = created.body["metadata"]["uid"]
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    cluster = await Cluster.connect()
    counts = Counter[tuple[str, str]]()
    try:
        for _ in range(2):
            recorder = Recorder(cluster, "operator-1", lambda type_, reason: counts.update([(type_, reason)]))
            for _ in range(2):
                await recorder.record(Key("default", "told"), uid, EVENT)
        # Longer than Kubernetes lets a note be.
        await recorder.record(Key("default", "told"), uid, Event("Normal", "Published", "Succeeded", "x" * 2000))
    finally:
        await cluster.close()
    assert counts == {("Warning", "PodLost"): 4, ("Normal", "Published"): 1}
    kubectl = binaries.find("kubectl", binaries.CONTROL_PLANE)
    command = [str(kubectl), "--kubeconfig", str(server.kubeconfig), "describe", "ftj", "told"]
    described = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (line,) = [line for line in described.splitlines() if "PodLost" in line]
    assert "Warning" in line
    assert "(x3 over " in line
    assert "a pod was lost" in line
    assert "Published" in described
    assert server.request("DELETE", f"{JOBS}/told").accepted
