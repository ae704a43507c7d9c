"""One API server with our CRD, and one operator on it, for the tests that need them real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.server import Server, connect, is_established
from tests.control_plane.kubelet import Kubelet, Operator, find_port, run_operator
from tests.waiting import wait_for


@pytest.fixture(scope="session")
def server(control_plane: Path) -> Server:
    """Return the API server, serving the checked-in CRD."""
    server = connect(control_plane)
    answer = server.install_crd()
    assert answer.accepted, answer.message
    wait_for(lambda: is_established(server.read_crd()), "the CRD is established", seconds=30)
    wait_for(lambda: server.try_create({}).code not in (404, 429), "the CRD's resources are served", seconds=30)
    return server


@pytest.fixture(scope="session")
def agent_port() -> int:
    """Return a port for all agents; each listens on an address of its own."""
    return find_port("127.0.0.2")


@pytest.fixture(scope="module")
def operator(server: Server, agent_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """Return a running operator that leads."""
    variables = {
        "FINETUNE_OPERATOR_AGENT_PORT": str(agent_port),
        "FINETUNE_OPERATOR_NETWORK_POLICY": "true",
        "FINETUNE_OPERATOR_POD_LABELS": '{"app.kubernetes.io/name": "finetune-operator"}',
    }
    with run_operator(server, tmp_path_factory.mktemp("operator"), "first", **variables) as operator:
        yield operator


@pytest.fixture
def kubelet(server: Server, agent_port: int) -> Iterator[Kubelet]:
    """Return somebody who runs pods when the test says so."""
    kubelet = Kubelet(server, agent_port)
    yield kubelet
    kubelet.close()
