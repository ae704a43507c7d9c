"""One small world for the tests of this folder: a hundred jobs, and one whose writes are looked at one by one."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import cannot
from tests.ground.binaries import MissingToolError
from tests.ground.processes import StartError
from tests.scale.budget import JOBS, NODES, Observed, observe


@pytest.fixture(scope="session")
def observed() -> Observed:
    """Return what a small run cost."""
    try:
        return asyncio.run(observe(JOBS, NODES))
    except (MissingToolError, StartError) as error:
        cannot(error)
