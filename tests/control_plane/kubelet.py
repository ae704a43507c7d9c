"""Plays the kubelet and the agents on a kube-apiserver that has neither: sets pod statuses, answers /progress."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from finetune_contract import names
from finetune_contract.progress import Progress
from tests.contract.server import JOBS, Server
from tests.waiting import wait_for

PODS = "/api/v1/namespaces/default/pods"
_ADDRESSES = itertools.count()


class Agent:
    """An agent whose words the test decides; it listens on a loopback address of its own."""

    def __init__(self, port: int, progress: Progress) -> None:
        number = next(_ADDRESSES)
        self.ip = f"127.0.{number // 250}.{number % 250 + 2}"
        self.progress = progress
        self.times_asked = 0
        agent = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                agent.times_asked += 1
                body = agent.progress.to_json().encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Stay quiet."""

        self._server = ThreadingHTTPServer((self.ip, port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def say(self, **facts: Any) -> None:
        """Answer differently from now on."""
        self.progress = self.progress.model_copy(update=facts)

    def close(self) -> None:
        """Fall silent."""
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Kubelet:
    """Runs the pods of one namespace on command."""

    server: Server
    port: int
    agents: dict[str, Agent] = field(default_factory=dict)

    def read_job(self, name: str) -> dict[str, Any]:
        """The job as the API server holds it."""
        return self.server.request("GET", f"{JOBS}/{name}").body

    def list_pods(self, job: str) -> list[dict[str, Any]]:
        """The job's pods by name."""
        answer = self.server.request("GET", f"{PODS}?labelSelector={names.LABEL_JOB}={job}")
        return sorted(answer.body["items"], key=lambda pod: str(pod["metadata"]["name"]))

    def await_pods(self, job: str, count: int) -> list[dict[str, Any]]:
        """The job's pods, once there are so many."""
        wait_for(lambda: len(self.list_pods(job)) == count, f"{job} has {count} pods", seconds=20)
        return self.list_pods(job)

    def run_pod(self, pod: dict[str, Any], **facts: Any) -> Agent:
        """Bring a pod and its agent up."""
        labels = pod["metadata"]["labels"]
        agent = Agent(
            self.port,
            Progress(
                job_uid=labels[names.LABEL_JOB_UID],
                node=int(labels[names.LABEL_NODE_INDEX]),
                role=labels[names.LABEL_ROLE],
                **facts,
            ),
        )
        self.agents[pod["metadata"]["name"]] = agent
        self.set_status(pod, phase="Running", podIP=agent.ip, podIPs=[{"ip": agent.ip}], conditions=_make_ready(True))
        return agent

    def flip_ready(self, pod: dict[str, Any], ready: bool) -> None:
        """What the kubelet does when the probe's answer turns."""
        self.set_status(pod, conditions=_make_ready(ready))

    def set_status(self, pod: dict[str, Any], **status: Any) -> None:
        """Patch a pod's status."""
        path = f"{PODS}/{pod['metadata']['name']}/status"
        answer = self.server.request("PATCH", path, {"status": status}, "application/merge-patch+json")
        assert answer.accepted, answer.message

    def delete_pod(self, pod: dict[str, Any]) -> None:
        """Delete at once, as when its node is gone."""
        self.server.request("DELETE", f"{PODS}/{pod['metadata']['name']}?gracePeriodSeconds=0")

    def read_annotations(self, pod: dict[str, Any]) -> dict[str, str]:
        """The pod's annotations now."""
        answer = self.server.request("GET", f"{PODS}/{pod['metadata']['name']}")
        return dict(answer.body["metadata"].get("annotations", {}))

    def close(self) -> None:
        """Silence all agents."""
        for agent in self.agents.values():
            agent.close()


def _make_ready(ready: bool) -> list[dict[str, str]]:
    return [{"type": "Ready", "status": str(ready)}]


@dataclass
class Operator:
    """A running `python -m finetune_operator`."""

    process: subprocess.Popen[bytes]
    metrics_port: int
    probe_port: int
    log: Path

    def stop(self) -> int:
        """SIGTERM, and wait."""
        self.process.terminate()
        return self.process.wait(30)


@contextmanager
def run_operator(server: Server, folder: Path, identity: str, **variables: str) -> Iterator[Operator]:
    """Start the operator as a process of its own."""
    metrics_port, probe_port = find_port(), find_port()
    log = folder / f"{identity}.log"
    environment = os.environ | {
        "KUBECONFIG": str(server.kubeconfig),
        "POD_NAMESPACE": "default",
        "POD_NAME": identity,
        "FINETUNE_OPERATOR_METRICS_PORT": str(metrics_port),
        "FINETUNE_OPERATOR_PROBE_PORT": str(probe_port),
        **variables,
    }
    with log.open("wb") as stream:
        command = [sys.executable, "-m", "finetune_operator"]
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    operator = Operator(process, metrics_port, probe_port, log)
    try:
        yield operator
    finally:
        if process.poll() is None:
            operator.stop()


def find_port(address: str = "127.0.0.1") -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
