"""The real API server for the drills, and what a drill needs of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.contract.server import Server
from tests.control_plane.conftest import agent_port, server
from tests.drills.control_plane.stage import Stage, open_stage

__all__ = ["agent_port", "make_stage", "server"]


@pytest.fixture
def make_stage(server: Server, agent_port: int, tmp_path: Path) -> Iterator[Callable[[str], Stage]]:
    """Return a function that sets up a namespace, a proxy and an operator that is not started yet."""
    with ExitStack() as stack:

        def make(name: str) -> Stage:
            namespace = f"{name}-{uuid.uuid4().hex[:5]}"
            return stack.enter_context(open_stage(server.kubeconfig, tmp_path, namespace, agent_port))

        yield make
