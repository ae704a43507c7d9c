"""A release from install to uninstall on an API server of its own, where even the CRD may go."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_contract.names import GROUP, PLURAL
from finetune_contract.schema import make_crd
from tests.chart.release import FOREIGN, PREVIOUS, Release
from tests.chart.render import NAMESPACE
from tests.conftest import cannot
from tests.ground import apiserver
from tests.ground.binaries import MissingToolError
from tests.waiting import wait_for

CRD = f"{PLURAL}.{GROUP}"
MONITORING = ("metrics.serviceMonitor.enabled=true", "metrics.podMonitor.enabled=true", "rules.enabled=true")
MOST_RELEASE_BYTES = 512 * 1024
"""helm keeps a release, with the whole chart, in a Secret; the API server takes one of 1 MiB."""


@pytest.fixture(scope="module")
def plane() -> Iterator[Path]:
    folder = apiserver.session_folder("chart-")
    try:
        yield apiserver.start_alone(folder).kubeconfig
    except MissingToolError as error:
        cannot(error)
    finally:
        apiserver.stop_alone(folder)


@pytest.fixture
def release(plane: Path) -> Iterator[Release]:
    """Nothing is installed, before and after; no CRD is there."""
    release = Release(plane)
    yield release
    release.kubectl("delete", "crd", "--all", "--wait=true")
    if release.has("deployment", "finetune-operator", NAMESPACE):
        release.uninstall()
    release.kubectl("delete", "crd", "--all", "--wait=true")
    release.kubectl("delete", "nodes,storageclasses", "--all")


def _job(name: str = "spam") -> dict[str, Any]:
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "task": "text-classification",
            "model": {"source": "s3://ml/minilm"},
            "data": {"train": {"source": "s3://ml/train.jsonl"}},
            "output": {"destination": "s3://ml/out"},
        },
    }


def _set_status(release: Release, status: dict[str, Any]) -> None:
    patch = json.dumps({"status": status})
    done = release.kubectl("patch", "ftj", "spam", "--subresource=status", "--type=merge", f"--patch={patch}")
    assert done.returncode == 0, done.stderr


def test_an_upgrade_brings_the_new_crd_and_keeps_every_job_as_it_is(release: Release) -> None:
    release.install(chart=PREVIOUS)
    release.apply(_job())
    _set_status(release, {"phase": "Running"})
    before = release.get("ftj", "spam")
    assert _schema(release.get("crd", CRD)) != _schema(make_crd())
    release.install()
    assert _schema(release.get("crd", CRD)) == _schema(make_crd())
    assert release.get("ftj", "spam") == before
    assert release.get("deployment", "finetune-operator", NAMESPACE)["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
    }


@pytest.mark.parametrize("flag", ["--reset-then-reuse-values", "--reset-values"])
def test_an_upgrade_keeps_the_users_values_or_drops_them_as_asked(release: Release, flag: str) -> None:
    release.install("log.level=debug", chart=PREVIOUS)
    release.install(flags=(flag,), reset=False)
    (container,) = release.get("deployment", "finetune-operator", NAMESPACE)["spec"]["template"]["spec"]["containers"]
    level = next(each["value"] for each in container["env"] if each["name"] == "FINETUNE_OPERATOR_LOG_LEVEL")
    assert level == ("info" if flag == "--reset-values" else "debug")
    assert release.get("deployment", "finetune-operator", NAMESPACE)["spec"]["strategy"]["type"] == "RollingUpdate"


def test_an_upgrade_that_reuses_old_defaults_is_refused_with_what_to_say_instead(release: Release) -> None:
    release.install(chart=PREVIOUS)
    assert "say --reset-then-reuse-values" in release.refuse(flags=("--reuse-values",), reset=False)


def _schema(crd: dict[str, Any]) -> dict[str, Any]:
    (version,) = crd["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]
    return schema


def test_a_downgrade_is_a_release_like_any_other(release: Release) -> None:
    release.install()
    release.apply(_job())
    release.install(chart=PREVIOUS)
    assert release.get("ftj", "spam")["spec"]["task"] == "text-classification"
    assert release.get("deployment", "finetune-operator", NAMESPACE)["spec"]["strategy"] == {"type": "Recreate"}


def test_jobs_outlive_an_uninstall_and_are_found_again_by_the_next_install(release: Release) -> None:
    release.install()
    release.apply(_job())
    before = release.get("ftj", "spam")
    release.uninstall()
    assert not release.has("deployment", "finetune-operator", NAMESPACE)
    assert release.get("ftj", "spam") == before
    release.install()
    assert release.get("ftj", "spam") == before
    assert release.may("patch", f"{PLURAL}.{GROUP}/status", "default")


def test_jobs_go_with_the_crd_where_it_shall_not_be_kept(release: Release) -> None:
    release.install("crds.keep=false")
    release.apply(_job())
    release.uninstall()
    wait_for(lambda: not release.has("crd", CRD), "the CRD is gone", seconds=30)
    release.install()
    assert release.kubectl("get", "ftj", "--all-namespaces").stderr.strip() == "No resources found"


def test_without_the_crd_nothing_of_the_cluster_is_touched(release: Release) -> None:
    notes = release.install("crds.enabled=false")
    assert not release.has("crd", CRD)
    assert "the CustomResourceDefinition FineTuneJob, since crds.enabled is false" in notes


@pytest.mark.parametrize(
    ("setting", "kind"),
    [
        ("metrics.serviceMonitor.enabled", "ServiceMonitor"),
        ("metrics.podMonitor.enabled", "PodMonitor"),
        ("rules.enabled", "PrometheusRule"),
    ],
)
def test_monitoring_without_prometheus_operator_is_refused_with_what_to_do(
    release: Release, setting: str, kind: str
) -> None:
    assert (
        f"{setting} is true, but this cluster has no {kind}: install the CRDs of prometheus-operator first, or leave"
        f" {setting} false."
    ) in release.refuse(f"{setting}=true")


def test_prometheus_operators_own_schemas_take_monitors_and_rules(release: Release) -> None:
    crds = gzip.decompress((FOREIGN / "prometheus-operator-crds.yaml.gz").read_bytes())
    release.apply(*yaml.safe_load_all(crds))
    wait_for(lambda: release.kubectl("get", "podmonitors").returncode == 0, "the kinds are served", seconds=30)
    release.install(*MONITORING, "metrics.podMonitor.interval=15s", "metrics.serviceMonitor.labels.release=prometheus")
    monitor = release.get("servicemonitor", "finetune-operator", NAMESPACE)
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert release.has("podmonitor", "finetune-operator-trainers", NAMESPACE)
    assert release.has("prometheusrule", "finetune-operator", NAMESPACE)


def test_everything_that_can_be_turned_on_is_taken_by_the_api_server(release: Release) -> None:
    release.install("replicas=2", "networkPolicy.enabled=true", "dashboards.enabled=true", "crds.keep=false")
    assert release.may("create", "networkpolicies.networking.k8s.io", "default")
    assert release.has("poddisruptionbudget", "finetune-operator", NAMESPACE)
    assert release.has("networkpolicy", "finetune-operator", NAMESPACE)
    secrets = release.kubectl("get", "secrets", f"--namespace={NAMESPACE}", "--output=json", "--selector=owner=helm")
    sizes = [len(base64.b64decode(each["data"]["release"])) for each in json.loads(secrets.stdout)["items"]]
    assert 0 < max(sizes) < MOST_RELEASE_BYTES


def test_the_notes_tell_what_an_empty_cluster_lacks(release: Release) -> None:
    assert _missing(release.install()) == [
        "GPUs",
        "a default storage class, of which `helm test` would take a claim",
        "prometheus-operator",
        "a second operator",
    ]


def test_the_notes_are_short_where_nothing_is_missing(release: Release) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu"}}
    default = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}, "name": "standard"}
    storage = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": default, "provisioner": "none"}
    release.apply(node, storage)
    allocatable = '{"status": {"allocatable": {"cpu": "8", "nvidia.com/gpu": "8"}}}'
    release.kubectl("patch", "node", "gpu", "--subresource=status", "--type=merge", f"--patch={allocatable}")
    release.apply(*yaml.safe_load_all(gzip.decompress((FOREIGN / "prometheus-operator-crds.yaml.gz").read_bytes())))
    wait_for(lambda: release.kubectl("get", "podmonitors").returncode == 0, "the kinds are served", seconds=30)
    assert _missing(release.install()) == [
        "monitoring of fine-tuning, though prometheus-operator is here",
        "a second operator",
    ]
    notes = release.install("replicas=2", *MONITORING)
    assert _missing(notes) == []
    assert "gpusPerNode: 1" in notes


def test_the_cluster_is_not_looked_at_where_the_right_may_be_missing(release: Release) -> None:
    release.make_namespaces("team-a")
    for settings in (("inspectCluster=false",), ("watch.namespaces={team-a}",)):
        assert _missing(release.install(*settings)) == ["prometheus-operator", "a second operator"]


def _missing(notes: str) -> list[str]:
    """What the notes say is missing, up to the colon or comma that explains it."""
    lines = notes.partition("What is missing here:\n")[2].partition("\n\n")[0].splitlines()
    return [line.strip().removeprefix("- ").partition(":")[0] for line in lines]
