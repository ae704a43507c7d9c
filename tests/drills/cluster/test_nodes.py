"""Nodes that are lost, that come back, and that do not know that they were given up."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.drills.cluster.drill_ground import DrillGround
from tests.drills.cluster.make import SAVE_STEPS, make_drill_job, make_sabotaged_pod
from tests.drills.cluster.nodes import cut_network, silent_kubelet
from tests.drills.cluster.siege import Standing, check_checkpoints, settle
from tests.drills.cluster.watched_job import WatchedJob
from tests.drills.table import Drill, rehearse
from tests.ground import cluster, images
from tests.waiting import wait_for

pytestmark = pytest.mark.drill

SPARE_NODE = 2
RETURN_SECONDS = 120


@pytest.fixture(scope="module")
def two_nodes(drill_ground: DrillGround) -> DrillGround:
    """The ground with a second node that has the images."""
    cluster.up(SPARE_NODE)
    images.bring(nodes=[SPARE_NODE])
    return drill_ground


@pytest.fixture
def ground(drill_ground: DrillGround) -> Iterator[DrillGround]:
    """Empty after every drill."""
    yield drill_ground
    drill_ground.clear()


def _make_spread_job(name: str) -> dict[str, Any]:
    """A job whose pods sit on different nodes where they can."""
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"finetune.dev/job": name}},
    }
    return make_drill_job(name, pod=make_sabotaged_pod(topologySpread=[spread]))


def _start_spread(ground: DrillGround, name: str) -> tuple[WatchedJob, Standing, int]:
    """A job that trains on both nodes, and the index of its pod on the spare one."""
    ground.kubectl.apply(_make_spread_job(name))
    job = WatchedJob(ground, name)
    job.await_training()
    standing = settle(job)
    hosts = {pod["spec"]["nodeName"]: index for index, pod in standing.look.pods.items()}
    assert len(hosts) == 2, hosts
    return job, standing, hosts[f"node{SPARE_NODE}"]


LOST = Drill(
    "kubelet stopped",
    "the kubelet of one node stops, its containers run on",
    "0 steps lost, the pod is replaced elsewhere",
)


def test_a_node_that_does_not_answer_is_replaced(two_nodes: DrillGround, ground: DrillGround) -> None:
    job, standing, lost = _start_spread(ground, "lost")
    with rehearse(LOST) as sighting:
        began = time.time()
        with silent_kubelet(ground.layout, SPARE_NODE):
            sighting.recovery_seconds = job.await_training(standing.look.attempt + 1) - began
            after = job.look()
            ended = after.attempt_entry(standing.look.attempt)
            sighting.lost_steps, sighting.seen = ended["lostSteps"], f"{ended['reason']}, on one node"
            # Its agent still answers when the pod is evicted, so all ranks can stop with a checkpoint.
            assert (ended["reason"], ended["lostSteps"]) == ("PodDrained", 0), ended
            assert after.uids[1 - lost] == standing.look.uids[1 - lost]
            assert after.uids[lost] != standing.look.uids[lost]
            check_checkpoints(job, after, standing.newest_checkpoint)
        wait_for(
            lambda: len(ground.kubectl.list("pods", f"finetune.dev/job={job.name}")) == 2,
            "the lost pod goes when its node is back",
            seconds=RETURN_SECONDS,
        )


ZOMBIE = Drill("zombie node", "network cut, kubelet stopped; mended after the replacement trains", "it writes nothing")


def test_a_zombie_writes_nothing(two_nodes: DrillGround, ground: DrillGround) -> None:
    job, standing, lost = _start_spread(ground, "zombie")
    zombie = standing.look.pods[lost]["status"]["podIP"]
    with rehearse(ZOMBIE) as sighting, ExitStack() as kubelet:
        kubelet.enter_context(silent_kubelet(ground.layout, SPARE_NODE))
        began = time.time()
        with cut_network(ground.layout, job.agent(lost).pid):
            sighting.recovery_seconds = job.await_training(standing.look.attempt + 1, beyond=standing.step) - began
            before_mending = len(ground.proxy.writes)
            job.await_checkpoint(standing.step + SAVE_STEPS)
        job.await_training(standing.look.attempt + 1, beyond=standing.step + 4 * SAVE_STEPS)
        after = job.look()
        by_zombie = [path for address, path in ground.proxy.writes[before_mending:] if address == zombie]
        sighting.lost_steps = after.attempt_entry(standing.look.attempt)["lostSteps"]
        sighting.seen = f"{len(by_zombie)} writes by it, {len(ground.proxy.writes) - before_mending} by the others"
        assert by_zombie == []
        assert {address for address, _ in ground.proxy.writes[:before_mending]} >= {zombie}
        assert after.attempt == standing.look.attempt + 1
        check_checkpoints(job, after, standing.newest_checkpoint)


ELASTIC = Drill("elastic", "a pod is lost while no node takes new ones, and then one does", "one node, then two again")


def test_elastic_job_shrinks_and_grows_at_a_checkpoint(ground: DrillGround) -> None:
    resources = {
        "nodes": 2,
        "cpu": "300m",
        "memory": "3Gi",
        "elastic": {"minNodes": 1, "maxNodes": 2, "patienceSeconds": 5},
    }
    ground.kubectl.apply(make_drill_job("elastic", resources=resources))
    job = WatchedJob(ground, "elastic")
    job.await_training()
    standing = settle(job)
    with rehearse(ELASTIC) as sighting:
        ground.system("cordon", "-l", "kubernetes.io/hostname")
        try:
            began = time.time()
            job.agent(1).strike(signal.SIGKILL)
            sighting.recovery_seconds = job.await_training(standing.look.attempt + 1, standing.step, nodes=1) - began
            alone = job.await_checkpoint(standing.step)
        finally:
            ground.system("uncordon", "-l", "kubernetes.io/hostname")
        job.await_training(standing.look.attempt + 2, beyond=standing.step)
        after = job.look()
        entries = [after.attempt_entry(standing.look.attempt + extra) for extra in range(3)]
        sighting.lost_steps = sum(entry["lostSteps"] for entry in entries)
        sighting.seen = f"{[entry['nodes'] for entry in entries]} nodes, {[entry.get('reason') for entry in entries]}"
        assert [entry["nodes"] for entry in entries] == [2, 1, 2]
        assert (entries[1]["result"], entries[1]["reason"], entries[1]["lostSteps"]) == ("Stopped", "NodesGrown", 0)
        check_checkpoints(job, after, max(standing.newest_checkpoint, alone))
