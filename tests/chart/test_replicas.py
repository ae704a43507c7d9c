"""Two replicas: spread over nodes, and never taken away together."""

from __future__ import annotations

from tests.chart.render import NAMESPACE, render

SELECTOR = {"app.kubernetes.io/name": "finetune-operator", "app.kubernetes.io/instance": "finetune-operator"}


def test_two_replicas_are_never_evicted_together() -> None:
    budget = render("replicas=2").one("PodDisruptionBudget", "finetune-operator")
    assert budget["metadata"]["namespace"] == NAMESPACE
    assert budget["spec"] == {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": SELECTOR},
    }


def test_one_replica_blocks_no_drain() -> None:
    assert render().of_kind("PodDisruptionBudget") == []


def test_replicas_are_spread_over_nodes_as_far_as_possible() -> None:
    assert render("replicas=2").pod["topologySpreadConstraints"] == [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": SELECTOR},
            "matchLabelKeys": ["pod-template-hash"],
        }
    ]
    assert "topologySpreadConstraints" not in render().pod


def test_a_spread_of_the_users_own_replaces_ours() -> None:
    spread = "topologySpreadConstraints[0]"
    given = (f"{spread}.maxSkew=2", f"{spread}.topologyKey=zone", f"{spread}.whenUnsatisfiable=DoNotSchedule")
    assert render("replicas=2", *given).pod["topologySpreadConstraints"] == [
        {"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    ]
