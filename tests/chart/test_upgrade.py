"""The release on the real cluster: a running job notices neither an upgrade nor an uninstall, and `helm test` passes.

It is the cluster's own release, since two operators must not run the same jobs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chart.release import PREVIOUS, Release
from tests.chart.render import CHART, render_test
from tests.ground.cache import REPOSITORY
from tests.ground.foreign import foreign_kubeconfig
from tests.waiting import wait_for

pytestmark = pytest.mark.cluster

TEAM, JOB, SECRET = "chart-team", "endless", "object-storage"
TRIAL = "finetune-operator-test"
PATIENCE = 180
UP = ("--wait", "--timeout=180s")


@pytest.fixture(scope="module")
def release(cluster: Path, images: dict[str, str]) -> Iterator[Release]:
    """The previous version of the chart, ready; in the end this one as everybody installs it."""
    release = Release(cluster)
    release.kubectl("delete", "namespace", TEAM, "--ignore-not-found", "--wait=true")
    release.make_namespaces(TEAM)
    release.install(chart=PREVIOUS, flags=UP)
    yield release
    release.kubectl("delete", "namespace", TEAM, "--wait=true")
    release.install(flags=UP)


@pytest.fixture(scope="module")
def endless(release: Release, cluster_object_store: dict[str, str]) -> Iterator[dict[str, Any]]:
    """A job that trains on the model of `helm test`, under the previous version; what it was before all upgrades."""
    bucket = _make_bucket(cluster_object_store)
    place = f"s3://{bucket}/{TEAM}-{uuid.uuid4().hex[:8]}"
    prepare = [sys.executable, str(CHART / "trial" / "prepare.py"), place]
    subprocess.run(prepare, check=True, env={**os.environ, **cluster_object_store})
    release.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET, "namespace": TEAM},
            "stringData": cluster_object_store,
        },
        _make_job(place),
    )
    wait_for(lambda: _trains(release), "the job trains", seconds=PATIENCE)
    yield _seen(release)
    release.kubectl("delete", "ftj", JOB, f"--namespace={TEAM}", "--wait=true")


def _make_bucket(environment: dict[str, str]) -> str:
    if os.environ.get("AWS_ENDPOINT_URL"):
        return os.environ["FINETUNE_TEST_BUCKET"]
    from tests.ground import objectstore

    return objectstore.start().make_bucket("chart")


def _make_job(place: str) -> dict[str, Any]:
    settings = (f"test.destination={place}", f"test.storageSecret={SECRET}", f"test.namespace={TEAM}")
    job: dict[str, Any] = json.loads(render_test(*settings).one("ConfigMap", TRIAL)["data"]["job.json"])
    job["metadata"]["name"] = JOB
    job["spec"]["training"]["maxSteps"] = 10_000_000
    job["spec"]["evaluation"]["everySteps"] = 5_000_000
    return job


def _status(release: Release) -> dict[str, Any]:
    status: dict[str, Any] = release.get("ftj", JOB, TEAM).get("status", {})
    return status


def _step(release: Release) -> int:
    return int(_status(release).get("progress", {}).get("step", 0))


def _trains(release: Release) -> bool:
    status = _status(release)
    return status.get("phase") == "Running" and status.get("progress", {}).get("step", 0) > 0


def _seen(release: Release) -> dict[str, Any]:
    """Everything by which a job would notice that its operator was away."""
    status = _status(release)
    pods = release.kubectl("get", "pods", f"--namespace={TEAM}", f"--selector=finetune.dev/job={JOB}", "--output=json")
    return {
        "phase": status["phase"],
        "conditions": [
            (each["type"], each["status"], each["reason"], each["lastTransitionTime"]) for each in status["conditions"]
        ],
        "attempts": [(attempt["number"], attempt.get("endTime")) for attempt in status["attempts"]],
        "restarts": status.get("restarts", 0),
        "pods": [
            (pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"])
            for pod in json.loads(pods.stdout)["items"]
        ],
    }


def _goes_on(release: Release) -> None:
    """Its figures move in the status again: the operator that is there now asks it."""
    before = _step(release)
    wait_for(lambda: _step(release) > before, "the status moves on", seconds=PATIENCE)


def test_a_running_job_does_not_notice_an_upgrade_to_two_replicas(release: Release, endless: dict[str, Any]) -> None:
    release.install("replicas=2", flags=UP)
    ready = release.get("deployment", "finetune-operator", release.namespace)["status"]["readyReplicas"]
    _goes_on(release)
    assert (ready, _seen(release)) == (2, endless)


def test_a_running_job_does_not_notice_that_the_chart_was_away(release: Release, endless: dict[str, Any]) -> None:
    release.uninstall()
    wait_for(lambda: not _operators(release), "the operator is gone", seconds=PATIENCE)
    assert _seen(release) == endless
    release.install(flags=UP)
    _goes_on(release)
    assert _seen(release) == endless


def _operators(release: Release) -> list[str]:
    selector = "--selector=app.kubernetes.io/name=finetune-operator"
    names = release.kubectl("get", "pods", f"--namespace={release.namespace}", selector, "--output=name")
    return names.stdout.split()


@pytest.fixture
def storage_class(release: Release) -> Iterator[str]:
    """Of the user's own cluster the default one; on ours a volume is made by hand."""
    if foreign_kubeconfig() is not None:
        yield ""
        return
    folder = REPOSITORY / ".cluster" / "chart-claim"
    folder.mkdir(parents=True, exist_ok=True)
    nodes = json.loads(release.kubectl("get", "nodes", "--output=json").stdout)["items"]
    release.kubectl("delete", "persistentvolume", TEAM, "--ignore-not-found", "--wait=true")
    release.apply(_make_volume(folder, next(node["metadata"]["name"] for node in nodes if _is_ready(node))))
    yield TEAM
    release.kubectl("delete", "persistentvolume", TEAM, "--wait=true")


def _is_ready(node: dict[str, Any]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in node["status"]["conditions"])


def _make_volume(folder: Path, node: str) -> dict[str, Any]:
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": TEAM},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": TEAM,
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }


def test_helm_test_runs_a_job_through_operator_and_trainer_and_leaves_nothing(
    release: Release, storage_class: str
) -> None:
    release.install(f"test.namespace={TEAM}", f"test.storageClassName={storage_class}", flags=UP)
    said = release.test(timeout="10m")
    assert f"FineTuneJob {TEAM}/{TRIAL} succeeded: accuracy " in said
    wait_for(lambda: _left(release) == [], "what the test made is gone", seconds=PATIENCE)


def _left(release: Release) -> list[str]:
    kinds = "pods,persistentvolumeclaims,configmaps,roles,rolebindings,serviceaccounts,finetunejobs"
    names = release.kubectl("get", kinds, f"--namespace={TEAM}", "--output=name").stdout.split()
    return [name for name in names if TRIAL in name]
