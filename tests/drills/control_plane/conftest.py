"""The real API server for the drills, and what a drill needs of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.contract.server import Server
from tests.control_plane.conftest import agent_port, server
from tests.drills.control_plane.stage import Stage, open_stage
from tests.drills.control_plane.trials import Trials, go_undisturbed, make_namespace

__all__ = ["agent_port", "make_stage", "server", "trials"]


@pytest.fixture
def make_stage(server: Server, agent_port: int, tmp_path: Path) -> Iterator[Callable[[str], Stage]]:
    """Return a function that sets up a namespace, a proxy and an operator that is not started yet."""
    with ExitStack() as stack:

        def make(name: str) -> Stage:
            return stack.enter_context(open_stage(server.kubeconfig, tmp_path, make_namespace(name), agent_port))

        yield make


@pytest.fixture(scope="session")
def trials(server: Server, agent_port: int, tmp_path_factory: pytest.TempPathFactory) -> Trials:
    """Return what the journey of a job is when nobody disturbs it, and the place for those that are disturbed."""
    return go_undisturbed(server, agent_port, tmp_path_factory.mktemp("trials"))
