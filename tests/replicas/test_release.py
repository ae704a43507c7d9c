"""The release on the real cluster while 200 jobs train on played nodes: rolled out, then its nodes drained.

It is the cluster's own release, since two operators must not run the same jobs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from finetune_contract import names
from tests.chart.release import Release
from tests.contract.server import Server, connect
from tests.drills.table import Drill, Sighting, rehearse
from tests.ground import cluster as real_cluster
from tests.ground import images as built_images
from tests.ground.audit import Write, read_writes
from tests.ground.cache import REPOSITORY
from tests.ground.layout import current_layout
from tests.replicas.played import make_played_job, play_nodes
from tests.replicas.steadiness import Sight, assert_nothing_was_noticed, await_training, look
from tests.waiting import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.drill]
JOBS = 200
TEAM = "steady-team"
AUDIT = REPOSITORY / ".cluster" / "control-plane"
UP = ("--wait", "--timeout=180s")
SELECTOR = "app.kubernetes.io/instance=finetune-operator"


@dataclass(frozen=True)
class Ground:
    """Two replicas, and 200 jobs that train."""

    release: Release
    server: Server
    jobs: tuple[str, ...]

    def look(self) -> dict[str, Sight]:
        """The jobs as they are now."""
        return look(self.server, self.jobs)

    def assert_nothing_was_noticed(self, before: dict[str, Sight], begun: float, sighting: Sighting) -> None:
        """No job notices, although the one who led was struck."""

        def list_writes() -> list[Write]:
            return read_writes(AUDIT, agent=names.MANAGED_BY, namespace=TEAM, since=begun)

        writers = assert_nothing_was_noticed(self.server, before, begun, list_writes, sighting)
        assert len(writers) > 1, "the one who led was struck"

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the release's namespace."""
        done = self.release.kubectl(f"--namespace={self.release.namespace}", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def find_leaders_host(self) -> str:
        """Node of the replica that holds the lease."""
        leader = self.kubectl("get", "lease", "finetune-operator", "-o", "jsonpath={.spec.holderIdentity}")
        return self.kubectl("get", "pod", leader, "-o", "jsonpath={.spec.nodeName}")

    def list_hosts(self) -> list[str]:
        """Nodes of the replicas that are there to stay."""
        template = '{range .items[*]}{.metadata.deletionTimestamp}{"@"}{.spec.nodeName}{" "}{end}'
        found = self.kubectl("get", "pods", f"--selector={SELECTOR}", "-o", f"jsonpath={template}").split()
        return sorted(each.removeprefix("@") for each in found if each.startswith("@"))


@pytest.fixture(scope="module")
def ground(cluster: Path, images: dict[str, str]) -> Iterator[Ground]:
    """Return the release with two replicas on two nodes."""
    layout = current_layout()
    assert layout is not None, "nodes are played in the network of this clone's cluster"
    real_cluster.up(2)
    built_images.bring()
    release, server = Release(cluster), connect(cluster)
    ground = Ground(release, server, tuple(f"steady-{number}" for number in range(JOBS)))
    release.kubectl("delete", "namespace", TEAM, "--ignore-not-found", "--wait=true")
    release.kubectl("create", "namespace", TEAM)
    try:
        release.install("replicas=2", flags=UP)
        with play_nodes(layout, cluster):
            for name in ground.jobs:
                path = f"/apis/{names.API_VERSION}/namespaces/{TEAM}/{names.PLURAL}"
                answer = server.request("POST", path, make_played_job(name, TEAM, "move"))
                assert answer.accepted, answer.message
            await_training(server, ground.jobs)
            yield ground
            release.kubectl("delete", "ftj", "--all", f"--namespace={TEAM}", "--wait=true")
            release.kubectl("delete", "pods", "--all", f"--namespace={TEAM}", "--force", "--grace-period=0")
    finally:
        release.kubectl("delete", "namespace", TEAM, "--wait=true")
        release.install(flags=UP)


def test_no_job_notices_that_the_release_is_rolled_out(ground: Ground) -> None:
    drill = Drill(
        f"release rolled out during {JOBS} running jobs",
        "kubectl rollout restart of the Deployment",
        "same pods, attempts and conditions; statuses go on; never two writers",
    )
    with rehearse(drill) as sighting:
        before, begun = ground.look(), time.time()
        ground.kubectl("rollout", "restart", "deployment")
        ground.kubectl("rollout", "status", "deployment", "--timeout=180s")
        ground.assert_nothing_was_noticed(before, begun, sighting)


def test_nodes_of_the_release_are_drained_one_after_the_other(ground: Ground) -> None:
    drill = Drill(
        "nodes of both replicas drained",
        "kubectl drain of the leader's node, then of the other, which both stand on by then",
        "the PodDisruptionBudget lets one of the two go; no job notices",
    )
    with rehearse(drill) as sighting:
        wait_for(lambda: len(set(ground.list_hosts())) == 2, "the replicas stand on two nodes", seconds=60)
        first = ground.find_leaders_host()
        (second,) = set(ground.list_hosts()) - {first}
        before, begun = ground.look(), time.time()
        try:
            drain(ground, first)
            # Its replacement finds no other node than the second, and a replacement of one of those none at all.
            wait_for(lambda: ground.list_hosts() == [second, second], "the replica has moved", seconds=60)
            ground.kubectl("rollout", "status", "deployment", "--timeout=180s")
            ground.kubectl("cordon", second)
            evict = ground.release.kubectl(*drain_command(second), "--timeout=8s")
            assert evict.returncode != 0
            assert "disruption budget" in evict.stderr, evict.stderr
        finally:
            ground.kubectl("uncordon", first)
            ground.kubectl("uncordon", second)
        ground.kubectl("rollout", "status", "deployment", "--timeout=180s")
        ground.assert_nothing_was_noticed(before, begun, sighting)


def drain(ground: Ground, node: str) -> None:
    """Drain a node of our replicas; what else runs there stays."""
    done = ground.release.kubectl(*drain_command(node), "--timeout=60s")
    assert done.returncode == 0, done.stderr


def drain_command(node: str) -> tuple[str, ...]:
    """Of our replicas only."""
    return ("drain", node, f"--pod-selector={SELECTOR}", "--delete-emptydir-data", "--ignore-daemonsets")
