"""Fixtures of the drills on the real cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drills.cluster.drill_ground import DrillGround, prepare_drill_ground
from tests.ground.foreign import foreign_kubeconfig


@pytest.fixture(scope="session")
def drill_ground(
    cluster: Path, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DrillGround]:
    """The ready ground."""
    if foreign_kubeconfig() is not None:
        pytest.skip("the drills kill processes on the nodes: they need the cluster of this clone (unset KUBECONFIG)")
    with prepare_drill_ground(cluster, tmp_path_factory.mktemp("drills")) as ground:
        yield ground
