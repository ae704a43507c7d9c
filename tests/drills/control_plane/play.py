"""A namespace of the real API server whose kubelet and agents are played, each by what it sees at the moment.

Every look (`look`) is complete in itself, as the cluster's own parts are: whatever the operator does, or does twice,
or does late, the play goes on from there. It also keeps what no later look could tell: which members heard of which
attempt, and how many pods there were at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from finetune_contract import names
from finetune_contract.attempt import Attempt, StopRequest
from finetune_contract.progress import Progress
from tests.contract.make import make_data
from tests.contract.server import Answer, Server, connect
from tests.control_plane.kubelet import Agent
from tests.control_plane.make import make_failure, make_outcome, make_record, make_step, make_summary

Act = Literal["fails", "trains", "finishes"]
"""What becomes of an attempt: its second node's worker crashes, it trains until it is stopped, or it finishes."""
MERGE = "application/merge-patch+json"
JOB = "spam"


@dataclass
class Play:
    """One job in a namespace of its own."""

    server: Server
    namespace: str
    port: int
    script: Mapping[int, Act] = field(default_factory=lambda: {1: "finishes"})
    """Attempt -> what its agents do."""
    agents: dict[str, Agent] = field(default_factory=dict)
    told: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Attempt -> the member sets that were told with this number."""
    keeps_terminating: bool = False
    """Pods that are deleted with grace stay for now, as on a node that is busy or away."""
    holds_back: dict[str, Any] | None = None
    """While set, new pods do not run and have this status."""
    most_pods: int = 0
    """Pods at a time that had not ended and were not being deleted."""

    @classmethod
    def open(cls, kubeconfig: Path, namespace: str, port: int) -> Play:
        """Make the namespace; with a connection of its own, so that plays can run side by side."""
        play = cls(connect(kubeconfig), namespace, port)
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        answer = play.server.request("POST", "/api/v1/namespaces", body)
        assert answer.accepted, answer.message
        return play

    def close(self) -> None:
        """Leave nothing that a later operator could work on."""
        self.delete_job()
        for pod in self.list_pods():
            self.end_pod(pod["metadata"]["name"])
        for agent in self.agents.values():
            agent.close()

    def request(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Answer:
        """Ask for something of this namespace."""
        group = "/api/v1"
        if path.startswith(names.PLURAL):
            group = f"/apis/{names.API_VERSION}"
        elif path.startswith("events"):
            group = "/apis/events.k8s.io/v1"
        elif path.startswith("leases"):
            group = "/apis/coordination.k8s.io/v1"
        return self.server.request(method, f"{group}/namespaces/{self.namespace}/{path}", body, kind)

    def apply(self, spec: dict[str, Any] | None = None) -> None:
        """Create the job."""
        answer = self.request("POST", f"{names.PLURAL}?fieldValidation=Strict", make_data(spec, name=JOB))
        assert answer.accepted, answer.message

    def change(self, spec: dict[str, Any]) -> None:
        """Edit the job."""
        answer = self.request("PATCH", f"{names.PLURAL}/{JOB}", {"spec": spec}, MERGE)
        assert answer.accepted, answer.message

    def delete_job(self) -> None:
        """Delete the job."""
        self.request("DELETE", f"{names.PLURAL}/{JOB}")

    def read_job(self) -> dict[str, Any]:
        """The job as it is."""
        return self.request("GET", f"{names.PLURAL}/{JOB}").body

    def read_status(self) -> dict[str, Any]:
        """Its status."""
        status: dict[str, Any] = self.read_job().get("status", {})
        return status

    def list_pods(self) -> list[dict[str, Any]]:
        """All pods."""
        return list(self.request("GET", "pods").body["items"])

    def list_phases(self) -> list[str]:
        """Phases of all pods."""
        return [_phase(pod) for pod in self.list_pods()]

    def count_members(self, attempt: int) -> int:
        """How many agents follow this attempt."""
        return sum(agent.progress.attempt == attempt for agent in self.agents.values())

    def list_events(self) -> list[tuple[str, str, int]]:
        """Reason, note and how often, in order."""
        events = self.request("GET", "events").body["items"]
        found = [(each["reason"], each["note"], (each.get("series") or {"count": 1})["count"]) for each in events]
        return sorted(found)

    def look(self) -> None:
        """One turn of kubelet and agents."""
        pods = self.list_pods()
        alive = [pod for pod in pods if _phase(pod) in ("Pending", "Running") and not _is_deleting(pod)]
        self.most_pods = max(self.most_pods, len(alive))
        for pod in pods:
            name = pod["metadata"]["name"]
            if _is_deleting(pod):
                if not self.keeps_terminating:
                    self.end_pod(name)
            elif pod in alive and name not in self.agents and self.holds_back is not None:
                self.set_status(pod, **self.holds_back)
            elif pod in alive and name not in self.agents:
                self.run_pod(pod)
            elif pod in alive:
                self._follow(pod, self.agents[name])

    def run_pod(self, pod: dict[str, Any]) -> None:
        """Bring a pod up; bound to a node, so that it is deleted with grace."""
        labels = pod["metadata"]["labels"]
        target = {"apiVersion": "v1", "kind": "Node", "name": f"node{labels[names.LABEL_NODE_INDEX]}"}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod["metadata"]["name"]}}
        self.request("POST", f"pods/{pod['metadata']['name']}/binding", binding | {"target": target})
        node, uid = int(labels[names.LABEL_NODE_INDEX]), labels[names.LABEL_JOB_UID]
        agent = Agent(self.port, Progress(job_uid=uid, node=node, role=labels[names.LABEL_ROLE]))
        self.agents[pod["metadata"]["name"]] = agent
        self.set_status(pod, phase="Running", podIP=agent.ip, podIPs=[{"ip": agent.ip}], conditions=_make_ready(True))

    def end_pod(self, name: str) -> None:
        """Its processes have ended and the node forgets it."""
        self.request("DELETE", f"pods/{name}?gracePeriodSeconds=0")

    def set_status(self, pod: dict[str, Any], **status: Any) -> None:
        """Patch a pod's status; a pod that is gone by now needs none."""
        answer = self.request("PATCH", f"pods/{pod['metadata']['name']}/status", {"status": status}, MERGE)
        assert answer.accepted or answer.code == 404, answer.message

    def _follow(self, pod: dict[str, Any], agent: Agent) -> None:
        annotations = pod["metadata"].get("annotations", {})
        if names.ANNOTATION_FINISH in annotations:
            self.set_status(pod, phase="Succeeded")
            return
        if names.ANNOTATION_ATTEMPT not in annotations:
            return
        attempt = Attempt.from_json(annotations[names.ANNOTATION_ATTEMPT])
        self.told[attempt.number].add(str(sorted(attempt.members.items())))
        stop = annotations.get(names.ANNOTATION_STOP)
        stopped = stop is not None and StopRequest.from_json(stop).attempt >= attempt.number
        facts = make_facts(self.script[attempt.number], attempt.number, agent.progress.node, stopped)
        if any(getattr(agent.progress, name) != value for name, value in facts.items()):
            agent.say(**facts)
            # NotReady wakes the operator; Ready again only once it has answered.
            self.set_status(pod, conditions=_make_ready(not facts["news"]))


def make_facts(act: Act, attempt: int, node: int, stopped: bool) -> dict[str, Any]:
    """What the agent of a node says of an attempt: attempts begin at 5 (attempt - 1) and reach 5 steps more."""
    facts: dict[str, Any] = {
        "attempt": attempt,
        "phase": "Training",
        "news": False,
        "failure": None,
        "outcome": None,
        "data": make_summary(),
        "step": make_step(5 * attempt, total_steps=20),
        "resumed_from": 5 * (attempt - 1) or None,
        "checkpoints": tuple(make_record(5 * each, attempt=each) for each in range(1, attempt + 1))
        if node == 0
        else (),
    }
    if act == "fails" and node == 1:
        return facts | {"phase": "Failed", "news": True, "failure": make_failure(node=1, step=5 * attempt)}
    if act == "trains" and stopped:
        return facts | {"phase": "Stopped", "news": True}
    if act == "finishes":
        return facts | {"phase": "Finished", "news": True, "outcome": make_outcome(attempt=attempt)}
    return facts


def _make_ready(ready: bool) -> list[dict[str, str]]:
    return [{"type": "Ready", "status": str(ready)}]


def _phase(pod: dict[str, Any]) -> str:
    return str(pod.get("status", {}).get("phase", "Pending"))


def _is_deleting(pod: dict[str, Any]) -> bool:
    return "deletionTimestamp" in pod["metadata"]
