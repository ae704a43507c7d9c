"""The chart's monitors find operator and trainer pods, by the configuration that prometheus-operator makes of them."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from finetune_contract import names
from tests.chart.render import NAMESPACE, render
from tests.ground.scraping import convert_monitors, follow_annotations
from tests.monitoring.rules import MONITORING_PAGE

MONITORS = ("metrics.serviceMonitor.enabled=true", "metrics.podMonitor.enabled=true")
DROP_ENDED = {"action": "drop", "source_labels": ["__meta_kubernetes_pod_phase"], "regex": "(Failed|Succeeded)"}


def _convert(*settings: str) -> dict[str, dict[str, Any]]:
    monitors = [each for each in render(*MONITORS, *settings) if each["kind"].endswith("Monitor")]
    return {each["job_name"]: each for each in convert_monitors(monitors, "kubeconfig", "30s")}


def _copy(source: str, target: str) -> dict[str, Any]:
    return {"source_labels": [f"__meta_kubernetes_{source}"], "target_label": target}


def test_pod_monitor_finds_trainer_pods_wherever_they_are() -> None:
    name = f"podMonitor/{NAMESPACE}/finetune-operator-trainers/0"
    role = "__meta_kubernetes_pod_labelpresent_finetune_dev_role"
    port = "__meta_kubernetes_pod_container_port_name"
    assert _convert()[name] == {
        "job_name": name,
        "honor_labels": True,
        "scrape_interval": "30s",
        "metrics_path": names.PATH_METRICS,
        "scheme": "http",
        "kubernetes_sd_configs": [{"role": "pod", "kubeconfig_file": "kubeconfig"}],
        "relabel_configs": [
            DROP_ENDED,
            {"action": "keep", "source_labels": [role], "regex": "true"},
            {"action": "keep", "source_labels": [port], "regex": names.AGENT_PORT_NAME},
            _copy("namespace", "namespace"),
            _copy("pod_name", "pod"),
            _copy("pod_container_name", "container"),
            {"target_label": "job", "replacement": f"{NAMESPACE}/finetune-operator-trainers"},
            {"target_label": "endpoint", "replacement": "http"},
        ],
        "metric_relabel_configs": [],
    }


def test_pod_monitor_looks_only_where_the_operator_does() -> None:
    found = _convert("watch.namespaces={team-a,team-b}")[f"podMonitor/{NAMESPACE}/finetune-operator-trainers/0"]
    assert found["kubernetes_sd_configs"][0]["namespaces"] == {"names": ["team-a", "team-b"]}


def test_service_monitor_finds_the_operator_in_its_namespace() -> None:
    found = _convert()[f"serviceMonitor/{NAMESPACE}/finetune-operator/0"]
    assert found["kubernetes_sd_configs"] == [
        {"role": "endpointslice", "kubeconfig_file": "kubeconfig", "namespaces": {"names": [NAMESPACE]}}
    ]
    kept = {tuple(each["source_labels"]): each["regex"] for each in found["relabel_configs"] if "action" in each}
    label = "__meta_kubernetes_service_label{}_app_kubernetes_io_{}"
    assert kept == {
        tuple(DROP_ENDED["source_labels"]): DROP_ENDED["regex"],
        (label.format("", "name"), label.format("present", "name")): "finetune-operator;true",
        (label.format("", "instance"), label.format("present", "instance")): "finetune-operator;true",
        ("__meta_kubernetes_endpointslice_port_name",): "metrics",
    }
    assert found["honor_labels"] is True


def test_interval_of_a_monitor_is_that_of_the_values() -> None:
    settings = ("metrics.serviceMonitor.interval=15s", "metrics.podMonitor.interval=5s")
    intervals = {name.partition("/")[0]: each["scrape_interval"] for name, each in _convert(*settings).items()}
    assert intervals == {"serviceMonitor": "15s", "podMonitor": "5s"}


def test_monitor_that_asks_for_more_than_is_understood_is_refused() -> None:
    (monitor,) = render("metrics.podMonitor.enabled=true").of_kind("PodMonitor")
    monitor["spec"]["podMetricsEndpoints"][0]["bearerTokenSecret"] = {"name": "secret"}
    with pytest.raises(ValueError, match="bearerTokenSecret"):
        convert_monitors([monitor], "kubeconfig", "30s")


def test_annotations_of_the_operator_are_those_that_are_looked_for() -> None:
    relabelings = follow_annotations("kubeconfig", "2s")["relabel_configs"]
    read = {label for each in relabelings for label in each["source_labels"]}
    pod = render().one("Deployment", "finetune-operator")["spec"]["template"]["metadata"]
    for key in ("scrape", "port", "path"):
        assert f"__meta_kubernetes_pod_annotation_prometheus_io_{key}" in read
        assert f"prometheus.io/{key}" in pod["annotations"]


def test_scrape_job_of_the_monitoring_page_is_the_one_that_is_tested() -> None:
    blocks = re.findall(r"^```yaml\n(.+?)^```", MONITORING_PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (shown,) = next(yaml.safe_load(block) for block in blocks if block.startswith("- job_name"))
    tested = follow_annotations("kubeconfig", "2s")
    del tested["scrape_interval"], tested["kubernetes_sd_configs"][0]["kubeconfig_file"]
    assert shown == tested
