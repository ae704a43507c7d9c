"""How a Prometheus is told to find pods: what prometheus-operator makes of monitors, and what plain annotations need.

Only values in, values out; whatever a monitor asks for and is not understood here is refused, not passed over.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Object = dict[str, Any]
Relabeling = dict[str, Any]

ANNOTATIONS_JOB = "annotated-pods"
_ENDPOINT_FIELDS = {"port", "path", "interval", "scheme", "honorLabels", "relabelings", "metricRelabelings"}
_SPEC_FIELDS = {"selector", "namespaceSelector", "endpoints", "podMetricsEndpoints"}


def convert_monitors(monitors: Iterable[Object], kubeconfig: str, interval: str) -> list[Object]:
    """Return the scrape_configs of ServiceMonitors and PodMonitors; ``interval`` is for those that name none."""
    return [
        _convert_endpoint(monitor, number, endpoint, kubeconfig, interval)
        for monitor in monitors
        for number, endpoint in enumerate(_endpoints(monitor))
    ]


def follow_annotations(kubeconfig: str, interval: str) -> Object:
    """Return the scrape_config for pods that carry prometheus.io/scrape, port and path: the usual one of many clusters.

    Of it, honor_labels is what our series need.
    """
    annotation = "__meta_kubernetes_pod_annotation_prometheus_io"
    return {
        "job_name": ANNOTATIONS_JOB,
        "honor_labels": True,
        "scrape_interval": interval,
        "kubernetes_sd_configs": [{"role": "pod", "kubeconfig_file": kubeconfig}],
        "relabel_configs": [
            _keep([f"{annotation}_scrape"], "true"),
            {"action": "drop", "source_labels": ["__meta_kubernetes_pod_phase"], "regex": "(Failed|Succeeded)"},
            {**_copy(f"{annotation}_path", "__metrics_path__"), "regex": "(.+)"},
            {
                "source_labels": ["__meta_kubernetes_pod_ip", f"{annotation}_port"],
                "regex": "(.+);(.+)",
                "replacement": "$1:$2",
                "target_label": "__address__",
            },
            _copy("__meta_kubernetes_namespace", "namespace"),
            _copy("__meta_kubernetes_pod_name", "pod"),
        ],
    }


def _convert_endpoint(monitor: Object, number: int, endpoint: Object, kubeconfig: str, interval: str) -> Object:
    _refuse_unknown(monitor, endpoint)
    kind, metadata = monitor["kind"], monitor["metadata"]
    of_pods = kind == "PodMonitor"
    discovery: Object = {"role": "pod" if of_pods else "endpointslice", "kubeconfig_file": kubeconfig}
    if namespaces := _namespaces(monitor):
        discovery["namespaces"] = {"names": namespaces}
    found = "pod" if of_pods else "service"
    port = "__meta_kubernetes_pod_container_port_name" if of_pods else "__meta_kubernetes_endpointslice_port_name"
    named = [_copy(f"__meta_kubernetes_{label}", target) for label, target in _names_of_target(of_pods=of_pods)]
    prefix = f"{kind[0].lower()}{kind[1:]}"
    job = f"{metadata['namespace']}/{metadata['name']}"
    return {
        "job_name": f"{prefix}/{job}/{number}",
        "honor_labels": endpoint.get("honorLabels", False),
        "scrape_interval": endpoint.get("interval", interval),
        "metrics_path": endpoint.get("path", "/metrics"),
        "scheme": endpoint.get("scheme", "http"),
        "kubernetes_sd_configs": [discovery],
        "relabel_configs": [
            {"action": "drop", "source_labels": ["__meta_kubernetes_pod_phase"], "regex": "(Failed|Succeeded)"},
            *_select(monitor["spec"]["selector"], found),
            _keep([port], endpoint["port"]),
            *named,
            {"target_label": "job", "replacement": job} if of_pods else _copy("__meta_kubernetes_service_name", "job"),
            {"target_label": "endpoint", "replacement": endpoint["port"]},
            *(_snake(each) for each in endpoint.get("relabelings", [])),
        ],
        "metric_relabel_configs": [_snake(each) for each in endpoint.get("metricRelabelings", [])],
    }


def _endpoints(monitor: Object) -> list[Object]:
    spec = monitor["spec"]
    found: list[Object] = spec["podMetricsEndpoints" if monitor["kind"] == "PodMonitor" else "endpoints"]
    return found


def _refuse_unknown(monitor: Object, endpoint: Object) -> None:
    unknown = (set(monitor["spec"]) - _SPEC_FIELDS) | (set(endpoint) - _ENDPOINT_FIELDS)
    if unknown:
        raise ValueError(
            f"{monitor['kind']}: this converter does not understand {', '.join(sorted(unknown))}; teach it"
        )


def _namespaces(monitor: Object) -> list[str]:
    """Return the namespaces to look in; none: all."""
    selector = monitor["spec"].get("namespaceSelector", {})
    if selector.get("any"):
        return []
    return list(selector.get("matchNames", [monitor["metadata"]["namespace"]]))


def _names_of_target(*, of_pods: bool) -> list[tuple[str, str]]:
    names = [("namespace", "namespace"), ("pod_name", "pod"), ("pod_container_name", "container")]
    return names if of_pods else [*names, ("service_name", "service")]


def _select(selector: Object, found: str) -> list[Relabeling]:
    """Return the relabelings that keep what a label selector selects."""
    kept = [_keep_label(found, key, value) for key, value in sorted(selector.get("matchLabels", {}).items())]
    for expression in selector.get("matchExpressions", []):
        key, values = expression["key"], expression.get("values", [])
        match expression["operator"]:
            case "Exists":
                kept.append(_keep([_label(found, "labelpresent", key)], "true"))
            case "In":
                kept.append(_keep_label(found, key, f"({'|'.join(values)})"))
            case operator:
                raise ValueError(f"this converter does not understand the operator {operator}; teach it")
    return kept


def _keep_label(found: str, key: str, regex: str) -> Relabeling:
    return _keep([_label(found, "label", key), _label(found, "labelpresent", key)], f"{regex};true")


def _label(found: str, what: str, key: str) -> str:
    """Return the name under which Prometheus knows a label of a pod or a Service."""
    return f"__meta_kubernetes_{found}_{what}_{''.join(c if c.isalnum() else '_' for c in key)}"


def _keep(labels: list[str], regex: str) -> Relabeling:
    return {"action": "keep", "source_labels": labels, "regex": regex}


def _copy(label: str, target: str) -> Relabeling:
    return {"source_labels": [label], "target_label": target}


def _snake(relabeling: Object) -> Relabeling:
    """Return a monitor's relabeling as the configuration file spells it."""
    return {"".join(f"_{c.lower()}" if c.isupper() else c for c in key): value for key, value in relabeling.items()}
