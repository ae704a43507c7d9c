"""Several replicas of the operator in a namespace of their own, always with work to do, and who wrote when.

Who wrote is read from the API server's audit log, not from the replicas.
"""

from __future__ import annotations

import itertools
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from finetune_contract import names
from finetune_operator.clients.cluster import make_user_agent
from tests.contract.make import make_data
from tests.contract.server import Server, connect
from tests.control_plane.kubelet import Operator, run_operator
from tests.control_plane.story import try_metrics
from tests.ground.audit import Write, find_overlaps, read_writes
from tests.waiting import wait_for

LEADING = 'leader_election_master_status{name="finetune-operator"} 1.0'
APPLY_SECONDS = 0.2


@dataclass(frozen=True)
class Scene:
    """Where the replicas work."""

    server: Server
    folder: Path
    namespace: str

    def run(self, identity: str, kubeconfig: Path | None = None) -> AbstractContextManager[Operator]:
        """Start a replica; `kubeconfig` is another way to the same API server."""
        variables = {"POD_NAMESPACE": self.namespace, "FINETUNE_OPERATOR_WATCH_NAMESPACES": self.namespace}
        if kubeconfig is not None:
            variables["KUBECONFIG"] = str(kubeconfig)
        return run_operator(self.server, self.folder, identity, **variables)

    def list_writes(self, identity: str = "", since: float = 0.0) -> list[Write]:
        """What a replica (or each of them) wrote but leases."""
        agent = make_user_agent(identity) if identity else names.MANAGED_BY
        found = read_writes(self.server.kubeconfig.parent, agent=agent, namespace=self.namespace, since=since)
        return [write for write in found if write.resource != "leases"]

    def await_writes(self, identity: str, since: float, *, seconds: float) -> Write:
        """The first write of a replica after a moment."""
        return wait_for(
            lambda: next(iter(self.list_writes(identity, since)), None), f"{identity} writes", seconds=seconds
        )

    def find_overlaps(self) -> list[tuple[Write, Write]]:
        """Writes of two replicas that were not in turn."""
        return find_overlaps(self.list_writes())


@contextmanager
def open_scene(server: Server, folder: Path) -> Iterator[Scene]:
    """A new namespace in which somebody applies a job again and again."""
    namespace = f"replicas-{uuid.uuid4().hex[:8]}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    assert server.request("POST", "/api/v1/namespaces", body).accepted
    stop = threading.Event()
    applicant = threading.Thread(target=_apply_jobs, args=(server.kubeconfig, namespace, stop))
    applicant.start()
    try:
        yield Scene(server, folder, namespace)
    finally:
        stop.set()
        applicant.join()


def await_leader(*replicas: Operator) -> Operator:
    """The one that leads."""
    return wait_for(lambda: next((each for each in replicas if is_leading(each)), None), "one leads", seconds=60)


def await_ready(replica: Operator) -> None:
    """Its readiness probe is content: it follows, with all caches complete."""
    wait_for(lambda: ask_probe(replica, "readyz")[0] == 200, "the replica is ready", seconds=60)


def ask_probe(replica: Operator, name: str) -> tuple[int, str]:
    """What a probe answers; 0: nothing."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{replica.probe_port}/{name}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def is_leading(replica: Operator) -> bool:
    """Whether a replica says so itself."""
    return LEADING in try_metrics(replica)


def _apply_jobs(kubeconfig: Path, namespace: str, stop: threading.Event) -> None:
    path = f"/apis/{names.API_VERSION}/namespaces/{namespace}/{names.PLURAL}"
    server = connect(kubeconfig)
    for number in itertools.count():
        if stop.wait(APPLY_SECONDS):
            return
        server.request("POST", path, make_data(name=f"job-{number}", namespace=namespace))
