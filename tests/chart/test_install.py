"""helm and a real API server: the objects are taken, the account may do what it needs and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_contract.names import GROUP, PLURAL
from tests.chart.release import Release
from tests.chart.render import NAMESPACE, render

TEAM = "team-of-chart"


@pytest.fixture(scope="module")
def release(control_plane: Path) -> Iterator[Release]:
    release = Release(control_plane, adopts=True)
    release.make_namespaces(NAMESPACE, TEAM)
    release.install()
    yield release
    release.uninstall()


@pytest.mark.parametrize(
    ("verb", "resource", "allowed"),
    [
        ("watch", f"{PLURAL}.{GROUP}", True),
        ("delete", f"{PLURAL}.{GROUP}", True),
        ("create", f"{PLURAL}.{GROUP}", False),
        ("patch", f"{PLURAL}.{GROUP}/status", True),
        ("create", "pods", True),
        ("get", "pods/log", False),
        ("create", "pods/exec", False),
        ("patch", "configmaps", True),
        ("create", "events.events.k8s.io", True),
        ("get", "secrets", False),
        ("list", "nodes", False),
        ("create", "leases.coordination.k8s.io", False),
    ],
)
def test_cluster_wide_the_account_may_do_its_work_in_any_namespace(
    release: Release, verb: str, resource: str, *, allowed: bool
) -> None:
    assert release.may(verb, resource, TEAM) is allowed


def test_leases_are_its_own_in_its_namespace_only(release: Release) -> None:
    assert release.may("update", "leases.coordination.k8s.io", NAMESPACE)
    assert not release.may("update", "leases.coordination.k8s.io", TEAM)


def test_with_namespaces_the_account_works_in_those_alone(release: Release) -> None:
    release.install(f"watch.namespaces={{{TEAM}}}")
    asked = [(verb, place) for verb in ("create", "delete") for place in (TEAM, "default")]
    answers = {(verb, place): release.may(verb, "pods", place) for verb, place in asked}
    release.install()
    assert answers == {(verb, place): place == TEAM for verb, place in asked}


def test_the_api_server_takes_the_pod_under_the_restricted_standard(release: Release) -> None:
    spec = {key: value for key, value in render().pod.items() if key != "serviceAccountName"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "operator", "namespace": TEAM},
        "spec": spec,
    }
    taken = release.kubectl("create", "--dry-run=server", "--filename=-", stdin=json.dumps(pod))
    assert taken.returncode == 0, taken.stderr
    worse = {**pod, "spec": {**spec, "hostNetwork": True}}
    refused = release.kubectl("create", "--dry-run=server", "--filename=-", stdin=json.dumps(worse))
    assert 'violates PodSecurity "restricted' in refused.stderr


def test_jobs_survive_an_uninstall(release: Release) -> None:
    release.uninstall()
    crd = release.kubectl("get", "crd", f"{PLURAL}.{GROUP}", "--output=name")
    release.install()
    assert crd.stdout.strip() == f"customresourcedefinition.apiextensions.k8s.io/{PLURAL}.{GROUP}"
