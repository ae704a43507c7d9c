"""The operator's pod: restricted, probed, told everything by its environment."""

from __future__ import annotations

import pytest

from finetune_operator.settings import read_settings
from tests.chart.render import render

SCRAPE = {"prometheus.io/scrape": "true", "prometheus.io/port": "8080", "prometheus.io/path": "/metrics"}


def test_the_pod_keeps_the_restricted_standard() -> None:
    rendered = render()
    assert rendered.pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert rendered.container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert rendered.pod["volumes"] == [{"name": "tmp", "emptyDir": {}}]
    assert rendered.container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert "hostNetwork" not in rendered.pod


def test_values_cannot_undo_the_restricted_standard() -> None:
    context = render("podSecurityContext.runAsNonRoot=false", "podSecurityContext.runAsUser=10001").pod[
        "securityContext"
    ]
    assert context == {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}


def test_probes_and_metrics_are_where_the_operator_answers() -> None:
    rendered = render()
    settings = read_settings(rendered.environment)
    ports = {port["name"]: port["containerPort"] for port in rendered.container["ports"]}
    assert ports == {"metrics": settings.metrics_port, "health": settings.probe_port}
    assert rendered.container["startupProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}
    assert rendered.container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}
    assert rendered.container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}
    service = rendered.one("Service", "finetune-operator-metrics")["spec"]
    assert service["ports"] == [{"name": "metrics", "port": 8080, "targetPort": "metrics"}]
    template = rendered.one("Deployment", "finetune-operator")["spec"]["template"]
    assert service["selector"].items() <= template["metadata"]["labels"].items()


def test_a_slow_start_is_no_reason_to_kill_and_a_hang_is() -> None:
    container = render().container
    patience = {
        probe: container[probe]["periodSeconds"] * container[probe]["failureThreshold"]
        for probe in ("startupProbe", "livenessProbe")
    }
    assert patience == {"startupProbe": 300, "livenessProbe": 60}


def test_a_new_replica_stands_ready_before_an_old_one_goes() -> None:
    spec = render().one("Deployment", "finetune-operator")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


def test_the_operator_reads_what_the_values_say() -> None:
    rendered = render(
        "trainer.image.repository=registry.example/trainer",
        "trainer.image.tag=v2",
        "trainer.image.pullPolicy=Always",
        "trainer.serviceAccount.name=trainers",
        "watch.namespaces={team-a,team-b}",
        "log.level=debug",
    )
    settings = read_settings(rendered.environment)
    assert settings.trainer.image == "registry.example/trainer:v2"
    assert settings.trainer.image_pull_policy == "Always"
    assert settings.trainer.service_account == "trainers"
    assert settings.watch_namespaces == ("team-a", "team-b")
    assert settings.log_level == "DEBUG"


def test_without_values_the_operator_watches_the_cluster_with_images_of_its_own_version() -> None:
    rendered = render()
    settings = read_settings(rendered.environment)
    assert settings.watch_namespaces == ()
    assert settings.trainer.service_account is None
    assert settings.trainer.image == "ghcr.io/finetune-operator/trainer:0.1.0"
    assert rendered.container["image"] == "ghcr.io/finetune-operator/operator:0.1.0"


def test_the_pod_learns_its_own_name_and_namespace() -> None:
    sources = {each["name"]: each["valueFrom"] for each in render().container["env"] if "valueFrom" in each}
    assert sources == {
        "POD_NAME": {"fieldRef": {"fieldPath": "metadata.name"}},
        "POD_NAMESPACE": {"fieldRef": {"fieldPath": "metadata.namespace"}},
    }


@pytest.mark.parametrize(
    ("setting", "field", "value"),
    [
        ("priorityClassName=high", "priorityClassName", "high"),
        ("nodeSelector.pool=system", "nodeSelector", {"pool": "system"}),
        ("imagePullSecrets[0].name=registry", "imagePullSecrets", [{"name": "registry"}]),
        ("tolerations[0].operator=Exists", "tolerations", [{"operator": "Exists"}]),
        ("affinity.nodeAffinity.a=b", "affinity", {"nodeAffinity": {"a": "b"}}),
        ("serviceAccount.name=mine", "serviceAccountName", "mine"),
    ],
)
def test_values_reach_the_pod(setting: str, field: str, value: object) -> None:
    assert render(setting).pod[field] == value


def test_labels_annotations_and_variables_reach_the_pod() -> None:
    rendered = render("podLabels.a=b", "podAnnotations.c=d", "extraEnv[0].name=HTTPS_PROXY", "extraEnv[0].value=p")
    metadata = rendered.one("Deployment", "finetune-operator")["spec"]["template"]["metadata"]
    assert metadata["labels"]["a"] == "b"
    assert metadata["annotations"] == {**SCRAPE, "c": "d"}
    assert rendered.environment["HTTPS_PROXY"] == "p"
