"""Two replicas from the chart on the real cluster: the leader is stopped, then killed, and the other works."""

from __future__ import annotations

import itertools
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from finetune_contract import names
from tests.chart.render import CHART, NAMESPACE, run_helm
from tests.contract.make import make_data
from tests.contract.server import connect
from tests.drills.table import Drill, rehearse
from tests.ground import binaries
from tests.ground.audit import Write, read_writes
from tests.ground.cache import REPOSITORY
from tests.ground.install import install
from tests.waiting import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.drill]
AUDIT = REPOSITORY / ".cluster" / "control-plane"
LEASE_SECONDS, RETRY_SECONDS = 15.0, 2.0


@dataclass(frozen=True)
class Release:
    """Two replicas that watch their own namespace, in which somebody applies a job again and again."""

    kubeconfig: Path
    namespace: str

    def kubectl(self, *arguments: str) -> str:
        program = str(binaries.find("kubectl", binaries.CONTROL_PLANE))
        command = [program, f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def read_leader(self) -> str:
        """The pod that holds the lease."""
        return self.kubectl("get", "lease", "finetune-operator", "-o", "jsonpath={.spec.holderIdentity}")

    def list_writes(self, since: float = 0.0) -> list[Write]:
        """What the replicas wrote but leases; another release may watch the whole cluster beside them."""
        found = read_writes(AUDIT, agent=f"({self.namespace}-", namespace=self.namespace, since=since)
        return [write for write in found if write.resource != "leases"]

    def await_writes_by_another(self, leader: str, since: float) -> Write:
        """The first write by anybody else."""
        return wait_for(
            lambda: next((each for each in self.list_writes(since) if leader not in each.agent), None),
            "another replica writes",
            seconds=60,
        )


@pytest.fixture
def release(cluster: Path, images: dict[str, str]) -> Iterator[Release]:
    """Return two ready replicas, beside the release that the documents install: the CRD is that one's."""
    install(NAMESPACE)
    namespace = f"replicas-{uuid.uuid4().hex[:6]}"
    release, stop = Release(cluster, namespace), threading.Event()
    place = (f"--kubeconfig={cluster}", f"--namespace={namespace}")
    values = ("replicas=2", "crds.enabled=false", f"watch.namespaces={{{namespace}}}", f"fullnameOverride={namespace}")
    sets = [part for value in values for part in ("--set", value)]
    release.kubectl("create", "namespace", namespace)
    applicant = threading.Thread(target=apply_jobs, args=(cluster, namespace, stop))
    try:
        done = run_helm("install", namespace, str(CHART), *place, "--wait", "--timeout=180s", *sets)
        assert done.returncode == 0, done.stderr
        applicant.start()
        yield release
    finally:
        stop.set()
        if applicant.is_alive():
            applicant.join()
        run_helm("uninstall", namespace, *place)
        release.kubectl("delete", "namespace", namespace, "--wait=false")


def test_other_replica_works_after_a_stop_and_after_a_kill(release: Release) -> None:
    stop = Drill("leader's pod deleted", "SIGTERM by the kubelet", "the other writes within 2 s, never both")
    with rehearse(stop) as sighting:
        took = time_takeover(release, lambda leader: release.kubectl("delete", "pod", leader, "--wait=false"))
        sighting.recovery_seconds, sighting.seen = took, "as expected"
        assert took < 2.0
    release.kubectl("rollout", "status", "deployment", "--timeout=180s")
    # The kubelet starts the same pod again, which finds its own lease: it or the other goes on, whoever is first.
    kill = Drill("leader killed", "SIGKILL of its process", "a replica writes again within the lease's time")
    with rehearse(kill) as sighting:
        leader = release.read_leader()
        kill_process(leader)
        killed = time.time()
        took = wait_for(lambda: release.list_writes(killed), "somebody writes", seconds=60)[0].begun - killed
        sighting.recovery_seconds, sighting.seen = took, "as expected"
        assert took < LEASE_SECONDS + RETRY_SECONDS
    gone = Drill(
        "leader killed for good",
        "SIGKILL of its process whenever the kubelet starts it",
        "the other writes within the lease's time",
    )
    with rehearse(gone) as sighting, ExitStack() as strikes:
        sighting.recovery_seconds = time_takeover(release, lambda leader: strikes.enter_context(held_down(leader)))
        sighting.seen = "as expected"
        assert sighting.recovery_seconds < LEASE_SECONDS + RETRY_SECONDS


def time_takeover(release: Release, strike: Callable[[str], object]) -> float:
    """Seconds from the strike to another's first write; nobody wrote out of turn."""
    leader = wait_for(release.read_leader, "somebody leads", seconds=60)
    wait_for(lambda: [each for each in release.list_writes() if leader in each.agent], "it writes", seconds=60)
    struck = time.time()
    strike(leader)
    first = release.await_writes_by_another(leader, struck)
    assert first.begun > max(each.ended for each in release.list_writes() if leader in each.agent)
    return first.begun - struck


@contextmanager
def held_down(pod: str) -> Iterator[None]:
    """Kill the pod's process, and each that takes its place."""
    kill_process(pod)
    rise = threading.Event()

    def strike() -> None:
        while not rise.wait(0.2):
            with suppress(AssertionError):
                kill_process(pod)

    striker = threading.Thread(target=strike)
    striker.start()
    try:
        yield
    finally:
        rise.set()
        striker.join()


def kill_process(pod: str) -> None:
    """End the one process whose environment carries the pod's name."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if f"POD_NAME={pod}".encode() in environment and b"POD_NAMESPACE" in path.read_bytes():
            subprocess.run(["kill", "-KILL", path.parent.name], check=False)
            return
    raise AssertionError(f"no process of {pod} on this machine")


def apply_jobs(kubeconfig: Path, namespace: str, stop: threading.Event) -> None:
    """Jobs that are refused: work for the operator, none for the nodes."""
    path = f"/apis/{names.API_VERSION}/namespaces/{namespace}/{names.PLURAL}"
    server = connect(kubeconfig)
    for number in itertools.count():
        if stop.wait(0.2):
            return
        labels = {names.LABEL_QUEUE: "research"}
        server.request("POST", path, make_data(name=f"job-{number}", namespace=namespace, labels=labels))
