"""One API server with our CRD for all contract tests of a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.server import Server, connect, is_established
from tests.waiting import wait_for


@pytest.fixture(scope="session")
def server(control_plane: Path) -> Server:
    """Return the API server, serving the checked-in CRD."""
    server = connect(control_plane)
    answer = server.install_crd()
    assert answer.accepted, answer.message
    wait_for(lambda: is_established(server.read_crd()), "the CRD is established", seconds=30)
    wait_for(lambda: server.try_create({}).code != 404, "the CRD's resources are served", seconds=30)
    return server
