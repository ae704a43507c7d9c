"""Fixtures of the end-to-end tests, and their marker."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import cannot
from tests.endtoend.chat_run import ChatRun, run_chat_job
from tests.endtoend.ground import REPOSITORY, Ground, prepare_ground
from tests.endtoend.kubectl import Kubectl
from tests.endtoend.scraped import Scraped, scrape
from tests.ground import binaries
from tests.ground.foreign import foreign_kubeconfig
from tests.ground.layout import current_layout
from tests.ground.processes import StartError


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


@pytest.fixture(scope="session")
def scraped(ground: Ground) -> Iterator[Scraped | None]:
    """The Prometheis that look on; None on a cluster of the user's own, whose pods they do not reach."""
    layout = current_layout()
    if foreign_kubeconfig() is not None or layout is None:
        yield None
        return
    try:
        with scrape(layout) as found:
            yield found
    except (binaries.MissingToolError, StartError) as error:
        cannot(error)


@pytest.fixture(scope="session")
def chat(ground: Ground, scraped: Scraped | None) -> ChatRun:
    """The chat job, run once."""
    return run_chat_job(ground, scraped)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder are end to end."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.endtoend)


if shutil.which("kubectl") is None:
    Kubectl.program = str(binaries.find("kubectl", binaries.KUBERNETES))
