"""What the tests on the real API server do and look at again and again."""

from __future__ import annotations

import urllib.request
from typing import Any

from tests.contract.make import make_data
from tests.contract.server import JOBS, Server
from tests.control_plane.kubelet import Kubelet, Operator
from tests.waiting import wait_for


def apply(server: Server, name: str, spec: dict[str, Any] | None = None, **metadata: Any) -> None:
    answer = server.create(make_data(spec, name=name, **metadata))
    assert answer.accepted, answer.message


def patch_job(server: Server, name: str, spec: dict[str, Any]) -> None:
    answer = server.request("PATCH", f"{JOBS}/{name}", {"spec": spec}, "application/merge-patch+json")
    assert answer.accepted, answer.message


def await_phase(kubelet: Kubelet, name: str, phase: str) -> dict[str, Any]:
    wait_for(lambda: read_status(kubelet, name).get("phase") == phase, f"{name} is {phase}", seconds=20)
    return read_status(kubelet, name)


def read_status(kubelet: Kubelet, name: str) -> dict[str, Any]:
    status: dict[str, Any] = kubelet.read_job(name).get("status", {})
    return status


def read_conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}


def await_annotation(kubelet: Kubelet, pod: dict[str, Any], name: str) -> str:
    return wait_for(lambda: kubelet.read_annotations(pod).get(name), f"{name} is annotated", seconds=20)


def read_metrics(operator: Operator) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{operator.metrics_port}/metrics", timeout=5) as answer:
        return str(answer.read(), "utf-8")


def list_events(server: Server, name: str) -> list[str]:
    answer = server.request("GET", "/apis/events.k8s.io/v1/namespaces/default/events")
    return sorted(each["reason"] for each in answer.body["items"] if each["regarding"]["name"] == name)


def try_metrics(operator: Operator) -> str:
    try:
        return read_metrics(operator)
    except OSError:
        return ""
