"""Fixtures of the end-to-end tests, and their marker."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.endtoend.ground import REPOSITORY, Ground, prepare_ground
from tests.endtoend.kubectl import Kubectl
from tests.ground import binaries


@pytest.fixture(scope="session")
def ground(
    cluster: Path,
    images: dict[str, str],
    cluster_object_store: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ground]:
    """The ready ground; the operator's log is kept beside the cluster's own."""
    found = prepare_ground(cluster, cluster_object_store, tmp_path_factory.mktemp("endtoend"))
    yield found
    log = found.system("logs", "deployment/finetune-operator", "--tail=-1", timeout=120)
    (REPOSITORY / ".cluster" / "operator.log").write_text(log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder are end to end."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.endtoend)


if shutil.which("kubectl") is None:
    Kubectl.program = str(binaries.find("kubectl", binaries.KUBERNETES))
