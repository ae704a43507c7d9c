"""What the operator may do, to the verb: no secrets, no nodes, no wildcard."""

from __future__ import annotations

from typing import Any

from tests.chart.render import NAMESPACE, Object, render

RULES = [
    {"apiGroups": ["finetune.dev"], "resources": ["finetunejobs"], "verbs": ["get", "list", "watch", "delete"]},
    {"apiGroups": ["finetune.dev"], "resources": ["finetunejobs/status"], "verbs": ["patch", "update"]},
    {"apiGroups": ["finetune.dev"], "resources": ["finetunejobs/finalizers"], "verbs": ["update"]},
    {
        "apiGroups": [""],
        "resources": ["pods", "configmaps"],
        "verbs": ["create", "get", "list", "watch", "patch", "delete"],
    },
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
]
LEASES = [
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update", "patch"]}
]
OPERATOR = {"kind": "ServiceAccount", "name": "finetune-operator", "namespace": NAMESPACE}


def _places(objects: list[Object]) -> list[tuple[str | None, str]]:
    return [(each["metadata"].get("namespace"), each["metadata"]["name"]) for each in objects]


def _role(kind: str, name: str) -> dict[str, Any]:
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}


def test_cluster_wide_the_operator_has_one_cluster_role() -> None:
    rendered = render("rbac.aggregateToUserRoles=false")
    (role,) = rendered.of_kind("ClusterRole")
    (binding,) = rendered.of_kind("ClusterRoleBinding")
    assert role["rules"] == RULES
    assert binding["roleRef"] == _role("ClusterRole", "finetune-operator")
    assert binding["subjects"] == [OPERATOR]
    assert _places(rendered.of_kind("Role")) == [(NAMESPACE, "finetune-operator-leader")]


def test_with_namespaces_the_operator_has_a_role_in_each_and_none_in_the_cluster() -> None:
    rendered = render("watch.namespaces={team-a,team-b}", "rbac.aggregateToUserRoles=false")
    assert rendered.of_kind("ClusterRole") == rendered.of_kind("ClusterRoleBinding") == []
    expected = [
        (NAMESPACE, "finetune-operator-leader"),
        ("team-a", "finetune-operator"),
        ("team-b", "finetune-operator"),
    ]
    assert _places(rendered.of_kind("Role")) == _places(rendered.of_kind("RoleBinding")) == expected
    assert [role["rules"] for role in rendered.of_kind("Role")] == [LEASES, RULES, RULES]
    for binding in rendered.of_kind("RoleBinding"):
        assert binding["roleRef"] == _role("Role", binding["metadata"]["name"])
        assert binding["subjects"] == [OPERATOR]


def test_users_of_a_namespace_may_run_and_see_jobs() -> None:
    rendered = render()
    view, edit = (
        rendered.one("ClusterRole", "finetune-operator-view"),
        rendered.one("ClusterRole", "finetune-operator-edit"),
    )
    assert view["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
    assert edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"] == "true"
    assert [rule["resources"] for role in (view, edit) for rule in role["rules"]] == [["finetunejobs"]] * 2
    assert view["rules"][0]["verbs"] == ["get", "list", "watch"]


def test_no_role_holds_secrets_or_a_wildcard() -> None:
    rendered = render()
    rules = [rule for kind in ("Role", "ClusterRole") for role in rendered.of_kind(kind) for rule in role["rules"]]
    assert not any("*" in rule[key] for rule in rules for key in ("apiGroups", "resources", "verbs"))
    assert not any("secrets" in rule["resources"] for rule in rules)


def test_without_rbac_nothing_of_it_is_rendered() -> None:
    rendered = render("rbac.create=false", "rbac.aggregateToUserRoles=false")
    assert [each["kind"] for each in rendered if "Role" in each["kind"]] == []


def test_the_operators_account_mounts_no_token_by_itself() -> None:
    rendered = render()
    (account,) = rendered.of_kind("ServiceAccount")
    assert account["metadata"]["name"] == rendered.pod["serviceAccountName"] == "finetune-operator"
    assert account["automountServiceAccountToken"] is False
    assert rendered.pod["automountServiceAccountToken"] is True


def test_the_trainers_account_lies_where_jobs_are_and_mounts_no_token() -> None:
    settings = ("serviceAccount.create=false", "trainer.serviceAccount.create=true")
    cluster_wide = render(*settings).of_kind("ServiceAccount")
    namespaced = render(*settings, "watch.namespaces={a,b}", "trainer.serviceAccount.annotations.role=x")
    listed = render(*settings, "trainer.serviceAccount.namespaces={c}", "trainer.serviceAccount.name=t")
    assert _places(cluster_wide) == [(NAMESPACE, "finetune-trainer")]
    assert _places(namespaced.of_kind("ServiceAccount")) == [("a", "finetune-trainer"), ("b", "finetune-trainer")]
    assert _places(listed.of_kind("ServiceAccount")) == [("c", "t")]
    assert namespaced.of_kind("ServiceAccount")[0]["metadata"]["annotations"] == {"role": "x"}
    assert all(account["automountServiceAccountToken"] is False for account in namespaced.of_kind("ServiceAccount"))
    assert namespaced.environment["FINETUNE_OPERATOR_TRAINER_SERVICE_ACCOUNT"] == "finetune-trainer"
    assert namespaced.pod["serviceAccountName"] == "default"
