"""How a Prometheus finds operator and trainers: monitors and annotations as objects, and who may reach the ports."""

from __future__ import annotations

import json

from finetune_contract import names
from finetune_operator.settings import read_settings
from tests.chart.render import NAMESPACE, refuse, render

SELECTOR = {"app.kubernetes.io/name": "finetune-operator", "app.kubernetes.io/instance": "finetune-operator"}
SERVICE, PODS = "metrics.serviceMonitor", "metrics.podMonitor"
POLICY, PEERS = "networkPolicy.enabled=true", "networkPolicy.prometheus"
PROMETHEUS = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}}


def test_without_values_there_are_annotations_alone() -> None:
    rendered = render()
    annotations = rendered.one("Deployment", "finetune-operator")["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "8080",
        "prometheus.io/path": "/metrics",
    }
    assert rendered.of_kind("ServiceMonitor") == rendered.of_kind("PodMonitor") == []
    assert rendered.of_kind("PrometheusRule") == rendered.of_kind("NetworkPolicy") == []


def test_annotations_can_be_left_out_and_overridden() -> None:
    without = render("metrics.annotations=false").one("Deployment", "finetune-operator")
    own = render("podAnnotations.prometheus\\.io/path=/own").one("Deployment", "finetune-operator")
    assert "annotations" not in without["spec"]["template"]["metadata"]
    assert own["spec"]["template"]["metadata"]["annotations"]["prometheus.io/path"] == "/own"


def test_the_service_monitor_finds_the_metrics_service() -> None:
    rendered = render(f"{SERVICE}.enabled=true", f"{SERVICE}.interval=30s")
    (monitor,) = rendered.of_kind("ServiceMonitor")
    assert monitor["spec"] == {
        "selector": {"matchLabels": SELECTOR},
        "namespaceSelector": {"matchNames": [NAMESPACE]},
        "endpoints": [{"port": "metrics", "path": "/metrics", "honorLabels": True, "interval": "30s"}],
    }
    service = rendered.one("Service", "finetune-operator-metrics")
    assert SELECTOR.items() <= service["metadata"]["labels"].items()
    assert [port["name"] for port in service["spec"]["ports"]] == ["metrics"]


def test_the_pod_monitor_finds_trainer_pods_where_jobs_are_run() -> None:
    everywhere = render(f"{PODS}.enabled=true").one("PodMonitor", "finetune-operator-trainers")["spec"]
    some = render(f"{PODS}.enabled=true", "watch.namespaces={a,b}").one("PodMonitor", "finetune-operator-trainers")
    assert everywhere == {
        "selector": {"matchExpressions": [{"key": names.LABEL_ROLE, "operator": "Exists"}]},
        "namespaceSelector": {"any": True},
        "podMetricsEndpoints": [{"port": names.AGENT_PORT_NAME, "path": names.PATH_METRICS, "honorLabels": True}],
    }
    assert some["spec"]["namespaceSelector"] == {"matchNames": ["a", "b"]}


def test_labels_by_which_a_prometheus_selects_are_added_to_ours() -> None:
    rendered = render(*(f"{each}.{key}" for each in (SERVICE, PODS) for key in ("enabled=true", "labels.release=p")))
    for kind in ("ServiceMonitor", "PodMonitor"):
        (monitor,) = rendered.of_kind(kind)
        assert monitor["metadata"]["labels"].items() >= {**SELECTOR, "release": "p"}.items()


def test_a_service_monitor_without_the_service_is_refused() -> None:
    refused = refuse(f"{SERVICE}.enabled=true", "metrics.service.enabled=false")
    assert "set metrics.service.enabled to true as well" in refused


def test_only_prometheus_reaches_the_operators_metrics() -> None:
    (policy,) = render(POLICY).of_kind("NetworkPolicy")
    assert policy["spec"] == {
        "podSelector": {"matchLabels": SELECTOR},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": [PROMETHEUS], "ports": [{"port": "metrics", "protocol": "TCP"}]},
            {"ports": [{"port": "health", "protocol": "TCP"}]},
        ],
    }


def test_the_pods_that_may_read_metrics_are_the_users_to_name() -> None:
    namespace = f"{PEERS}.namespaceSelector.matchLabels.team=o11y"
    by_namespace = render(POLICY, namespace).of_kind("NetworkPolicy")[0]["spec"]["ingress"][0]["from"]
    by_both = render(POLICY, namespace, f"{PEERS}.podSelector.matchLabels.app=vm").of_kind("NetworkPolicy")
    everywhere = {"matchLabels": {"team": "o11y"}}
    assert by_namespace == [{"namespaceSelector": everywhere, "podSelector": {}}]
    assert by_both[0]["spec"]["ingress"][0]["from"] == [
        {"namespaceSelector": everywhere, "podSelector": {"matchLabels": {"app": "vm"}}}
    ]


def test_the_operator_makes_policies_that_let_in_the_same_pods_and_itself() -> None:
    rendered = render(POLICY)
    access = read_settings({**rendered.environment, "POD_NAMESPACE": NAMESPACE}).trainer.network
    template = rendered.one("Deployment", "finetune-operator")["spec"]["template"]
    assert access is not None
    assert (access.operator_namespace, access.peers) == (NAMESPACE, (PROMETHEUS,))
    assert access.operator_labels.items() <= template["metadata"]["labels"].items()
    assert json.loads(rendered.environment["FINETUNE_OPERATOR_POD_LABELS"]) == SELECTOR


def test_without_policies_the_operator_makes_none_and_has_no_right_to() -> None:
    rendered = render()
    (role,) = [each for each in rendered.of_kind("ClusterRole") if each["metadata"]["name"] == "finetune-operator"]
    assert read_settings(rendered.environment).trainer.network is None
    assert not any("networkpolicies" in rule["resources"] for rule in role["rules"])


def test_policies_need_the_right_to_create_and_read_them_and_no_other() -> None:
    role = render(POLICY, "watch.namespaces={team}").one("Role", "finetune-operator")
    assert role["rules"][-1] == {
        "apiGroups": ["networking.k8s.io"],
        "resources": ["networkpolicies"],
        "verbs": ["create", "get"],
    }
