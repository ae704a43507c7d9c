"""Brings a world up and takes it down: API server, scheduler, kwok, stand-in agents, operators. Measures nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.contract.make import make_data
from tests.contract.server import Server, connect, is_established
from tests.control_plane.kubelet import Operator, find_port, run_operator
from tests.ground import apiserver, kwok, processes
from tests.ground.controlplane import ControlPlane, start_scheduler
from tests.scale.words import RUN, SCRIPT
from tests.waiting import wait_for

SPEED = 5_000
"""Requests a second that the scheduler may make: more than there are."""
AGENTS = "agents"
HELPERS = ("etcd", "kube-apiserver", "kube-scheduler", kwok.PROGRAM, AGENTS)


@dataclass
class World:
    """Everything but the operator."""

    plane: ControlPlane
    server: Server
    agent_port: int
    operators: dict[str, Operator] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where logs, pid files and the audit log lie."""
        return self.plane.folder

    @contextmanager
    def run_operator(self, identity: str = "first", **variables: str) -> Iterator[Operator]:
        """An operator that asks the stand-ins."""
        # As in the image its code is compiled once, whatever the shell says that measures.
        variables = {
            "FINETUNE_OPERATOR_AGENT_PORT": str(self.agent_port),
            "PYTHONDONTWRITEBYTECODE": "",
            **variables,
        }
        with run_operator(self.server, self.folder, identity, **variables) as operator:
            self.operators[identity] = operator
            try:
                yield operator
            finally:
                del self.operators[identity]

    def list_pids(self) -> dict[str, int]:
        """Process ids of all that takes part."""
        pids = {name: int((self.folder / f"{name}.pid").read_text().split()[0]) for name in HELPERS}
        pids["the one who measures"] = os.getpid()
        return pids | {f"operator {name}": operator.process.pid for name, operator in self.operators.items()}


@contextmanager
def run_world(nodes: int = 8) -> Iterator[World]:
    """A world without an operator, of this process's own."""
    folder = apiserver.session_folder("scale-")
    with ExitStack() as stack:
        stack.callback(apiserver.stop_alone, folder)
        plane = apiserver.start_alone(folder)
        server = connect(plane.kubeconfig)
        answer = server.install_crd()
        assert answer.accepted, answer.message
        start_scheduler(plane, speed=SPEED)
        stack.callback(kwok.stop, folder)
        kwok.start(folder, plane.kubeconfig, nodes=nodes)
        wait_for(lambda: is_established(server.read_crd()), "the CRD is established", seconds=30)
        wait_for(lambda: server.try_create({}).code not in (404, 429), "the CRD's resources are served", seconds=30)
        port = find_port("127.0.0.2")
        stack.callback(processes.stop, folder, AGENTS)
        start_agents(folder, plane.kubeconfig, port)
        yield World(plane, server, port)


def start_agents(folder: Path, kubeconfig: Path, port: int, prefix: tuple[str, ...] = ()) -> None:
    """Start the stand-ins; ``prefix`` is the command into a network namespace."""
    command = [sys.executable, "-m", "tests.scale.agents", f"--kubeconfig={kubeconfig}", f"--port={port}"]
    processes.start(folder, AGENTS, [*prefix, *command])


def make_job(name: str, script: str = RUN, nodes: int = 2, gpus: int = 8, **spec: Any) -> dict[str, Any]:
    """A job of so many nodes whose agents follow a script."""
    resources = {"nodes": nodes, "gpusPerNode": gpus}
    return make_data({"resources": resources, "pod": {"annotations": {SCRIPT: script}}, **spec}, name=name)
