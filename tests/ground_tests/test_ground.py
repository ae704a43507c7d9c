"""The fixtures hold what they promise; everything else that runs on them relies on it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ground import binaries


def kubectl(kubeconfig: Path, *arguments: str) -> str:
    program = binaries.find("kubectl", binaries.CONTROL_PLANE)
    command = [str(program), f"--kubeconfig={kubeconfig}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_control_plane_takes_a_pod_without_running_it(control_plane: Path) -> None:
    kubectl(control_plane, "run", "nobody", "--image=none")
    assert kubectl(control_plane, "get", "pod", "nobody", "--output=jsonpath={.status.phase}") == "Pending"


@pytest.mark.cluster
def test_the_cluster_runs_a_pod_of_the_operator_image(cluster: Path, images: dict[str, str]) -> None:
    run = ("run", "probe", f"--image={images['operator']}", "--restart=Never", "--command", "--", "python", "--version")
    try:
        kubectl(cluster, *run)
        kubectl(cluster, "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/probe", "--timeout=60s")
        assert kubectl(cluster, "logs", "probe").startswith("Python 3.")
    finally:
        kubectl(cluster, "delete", "pod", "probe", "--ignore-not-found", "--now")


def test_the_object_store_refuses_to_create_a_key_twice(
    object_store: dict[str, str], make_bucket: Callable[[], str]
) -> None:
    obstore = pytest.importorskip("obstore")
    store = obstore.store.S3Store(
        make_bucket(),
        endpoint=object_store["AWS_ENDPOINT_URL"],
        access_key_id=object_store["AWS_ACCESS_KEY_ID"],
        secret_access_key=object_store["AWS_SECRET_ACCESS_KEY"],
        region=object_store["AWS_REGION"],
        client_options={"allow_http": True},
    )
    obstore.put(store, "key", b"first", mode="create")
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        obstore.put(store, "key", b"second", mode="create")
    assert bytes(obstore.get(store, "key").bytes()) == b"first"
