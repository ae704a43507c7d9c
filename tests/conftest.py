"""The ground under the tests: what each fixture starts stays thin, the work is done by tests.ground."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.data import models
from tests.ground import apiserver, objectstore
from tests.ground import cluster as real_cluster
from tests.ground import images as built_images
from tests.ground.binaries import MissingToolError
from tests.ground.buildah import BuildError
from tests.ground.foreign import foreign_kubeconfig
from tests.ground.processes import StartError


def cannot(error: Exception) -> NoReturn:
    """Skip with the reason on a person's machine; fail in CI, where a skipped claim is an unproved one."""
    if os.environ.get("CI") == "true":
        pytest.fail(str(error))
    pytest.skip(str(error))


def _store_variables() -> dict[str, str]:
    if os.environ.get("AWS_ENDPOINT_URL"):
        return {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
    try:
        return objectstore.start().environment
    except (MissingToolError, StartError) as error:
        cannot(error)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[Path]:
    """Return the kubeconfig of a kube-apiserver of this session's own: no controllers, no nodes."""
    folder = apiserver.session_folder()
    try:
        yield apiserver.start_alone(folder).kubeconfig
    except MissingToolError as error:
        cannot(error)
    finally:
        apiserver.stop_alone(folder)


@pytest.fixture(scope="session")
def cluster() -> Path:
    """Return the kubeconfig of a whole cluster: the user's own (KUBECONFIG), or this clone's, which stays up."""
    own = foreign_kubeconfig()
    if own is not None:
        print(f"the cluster tests run on KUBECONFIG={own}", file=sys.stderr)
        return own
    try:
        return real_cluster.up()
    except (MissingToolError, StartError) as error:
        cannot(error)


@pytest.fixture(scope="session")
def images(cluster: Path) -> dict[str, str]:
    """Return the names of the images ``operator`` and ``trainer``, built from this tree and known to the cluster."""
    try:
        return built_images.bring()
    except (MissingToolError, BuildError, StartError) as error:
        cannot(error)


@pytest.fixture(scope="session")
def object_store() -> dict[str, str]:
    """Return the variables of an S3 server: the user's own where AWS_ENDPOINT_URL is set, or one of this clone."""
    return _store_variables()


@pytest.fixture(scope="session")
def cluster_object_store(cluster: Path) -> dict[str, str]:
    """Return the variables of an S3 server that the cluster's pods reach too."""
    if foreign_kubeconfig() is not None and not os.environ.get("AWS_ENDPOINT_URL"):
        pytest.skip("a cluster of yours needs an S3 server that its pods reach: set AWS_ENDPOINT_URL and the keys")
    return _store_variables()


@pytest.fixture
def make_bucket() -> Callable[[], str]:
    """Return a function that makes a bucket nobody has used, and returns its name."""
    if os.environ.get("AWS_ENDPOINT_URL"):
        return lambda: os.environ["FINETUNE_TEST_BUCKET"]  # on a server of the user's own we make none
    return lambda: objectstore.start().make_bucket(f"test-{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Return the folder of a small real encoder."""
    return models.minilm()


@pytest.fixture(scope="session")
def smollm_cut() -> Path:
    """Return the folder of a small real decoder: eight layers of SmolLM2."""
    return models.smollm_cut()
