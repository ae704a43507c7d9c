"""The operator on a real API server that lacks something: it waits, says what, and begins by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.render import NAMESPACE, Object, render
from tests.conftest import cannot
from tests.contract.make import make_data
from tests.contract.server import JOBS, Server, connect
from tests.control_plane.kubelet import PODS, Operator, run_operator
from tests.control_plane.replicas import ask_probe
from tests.drills.api_proxy import ApiProxy
from tests.ground import apiserver
from tests.ground.binaries import MissingToolError
from tests.waiting import wait_for

CORE = "/api/v1"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
ROLES = {
    "ClusterRole": f"{RBAC}/clusterroles",
    "ClusterRoleBinding": f"{RBAC}/clusterrolebindings",
    "Role": f"{RBAC}/namespaces/{NAMESPACE}/roles",
    "RoleBinding": f"{RBAC}/namespaces/{NAMESPACE}/rolebindings",
}
GRANT = "grant it to its service account, as the chart does with rbac.create"
NOTHING_GRANTED = [
    f"the operator may not list, watch, get, delete finetunejobs of finetune.dev in all namespaces: {GRANT}",
    f"the operator may not patch finetunejobs/status of finetune.dev in all namespaces: {GRANT}",
    f"the operator may not list, watch, get, create, patch, delete pods in all namespaces: {GRANT}",
    f"the operator may not list, watch, get, create configmaps in all namespaces: {GRANT}",
    f"the operator may not get, create, update leases of coordination.k8s.io in namespace {NAMESPACE}: {GRANT}",
]
ALL_BUT_SOME = [
    f"the operator may not create, delete pods in all namespaces: {GRANT}",
    f"the operator may not get, create, update leases of coordination.k8s.io in namespace {NAMESPACE}: {GRANT}",
]
NO_CRD = [
    "the API server does not know FineTuneJobs: install the CRD (the chart's crds.enabled, or "
    "kubectl apply --server-side -f crds/finetune.dev_finetunejobs.yaml)"
]


@pytest.fixture
def bare_server(tmp_path: Path) -> Iterator[Server]:
    """Return an API server that has never heard of us."""
    folder = tmp_path / "bare"
    try:
        yield connect(apiserver.start_alone(folder).kubeconfig)
    except MissingToolError as error:
        cannot(error)
    finally:
        apiserver.stop_alone(folder)


def test_operator_says_what_it_waits_for_and_begins_by_itself(bare_server: Server, tmp_path: Path) -> None:
    account = write_account(bare_server, tmp_path / "account")
    roles = [each for each in render() if each["kind"] in ROLES]
    with ApiProxy(account, tmp_path / "proxy") as proxy:
        proxy.go_away()
        variables = {"POD_NAMESPACE": NAMESPACE, "KUBECONFIG": str(proxy.kubeconfig)}
        with run_operator(bare_server, tmp_path, "patient", **variables) as operator:
            await_words(operator, lambda words: "cannot be asked" in words[0])
            proxy.come_back()
            await_words(operator, lambda words: words == NOTHING_GRANTED)
            for role in roles:
                grant(bare_server, spoil(role))
            await_words(operator, lambda words: words == ALL_BUT_SOME)
            for role in roles:
                grant(bare_server, role)
            await_words(operator, lambda words: words == NO_CRD)
            assert ask_probe(operator, "healthz") == (200, "ok\n")
            assert bare_server.install_crd().accepted
            wait_for(lambda: ask_probe(operator, "readyz")[0] == 200, "it is ready", seconds=30)
            assert operator.process.poll() is None
            assert bare_server.request("POST", JOBS, make_data(name="first")).accepted
            wait_for(lambda: bare_server.request("GET", PODS).body["items"], "it works", seconds=30)
            away, *said = [entry["message"] for entry in read_log(operator) if entry["severity"] == "error"]
            assert away.startswith(f"the API server at {read_server(proxy)} cannot be asked: ")
            expected = (*NOTHING_GRANTED, *ALL_BUT_SOME, *NO_CRD)
            assert said == [f"{words}; trying again every 5 s" for words in expected]


def await_words(operator: Operator, expected: Any) -> None:
    """What the readiness probe says, line by line."""

    def look() -> bool:
        code, body = ask_probe(operator, "readyz")
        return code == 503 and bool(expected(body.splitlines()))

    try:
        wait_for(look, "the probe says what is missing", seconds=30)
    except AssertionError as error:
        raise AssertionError(f"{error}; it says {ask_probe(operator, 'readyz')}") from error


def read_server(proxy: ApiProxy) -> str:
    config = yaml.safe_load(proxy.kubeconfig.read_text(encoding="utf-8"))
    return str(config["clusters"][0]["cluster"]["server"])


def read_log(operator: Operator) -> list[dict[str, Any]]:
    return [json.loads(line) for line in operator.log.read_text().splitlines()]


def write_account(server: Server, path: Path) -> Path:
    """A kubeconfig of the operator's service account, which may do nothing yet."""
    body: Object = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    assert server.request("POST", f"{CORE}/namespaces", body).accepted
    accounts = f"{CORE}/namespaces/{NAMESPACE}/serviceaccounts"
    body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "finetune-operator"}}
    assert server.request("POST", accounts, body).accepted
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = server.request("POST", f"{accounts}/finetune-operator/token", body)
    assert answer.accepted, answer.message
    config = yaml.safe_load(server.kubeconfig.read_text(encoding="utf-8"))
    config["users"][0]["user"] = {"token": answer.body["status"]["token"]}
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def spoil(role: Object) -> Object:
    """The chart's role without some rights that it needs."""
    if role["metadata"]["name"].endswith("-leader") and role["kind"] == "Role":
        return role | {"rules": []}
    if role["kind"] != "ClusterRole":
        return role
    verbs = ["get", "list", "watch", "patch"]
    return role | {
        "rules": [rule | {"verbs": verbs} if "pods" in rule["resources"] else rule for rule in role["rules"]]
        + [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}]
    }


def grant(server: Server, role: Object) -> None:
    """Create or replace a role or binding of the chart."""
    path = f"{ROLES[role['kind']]}/{role['metadata']['name']}"
    answer = server.request(
        "PATCH", f"{path}?fieldManager=test&force=true", json.dumps(role), "application/apply-patch+yaml"
    )
    assert answer.accepted, answer.message
