"""Where a pod may run: what the user asked for, and away from nodes that have failed the job before, if possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

WEIGHT: Final = 100
"""The most that Kubernetes knows; a wish all the same, so that the last node left is still used."""


def make_affinity(wished: dict[str, Any] | None, avoided_nodes: Sequence[str]) -> dict[str, Any] | None:
    """The user's affinity with one more preference: none of these nodes."""
    if not avoided_nodes:
        return wished
    away = {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": list(avoided_nodes)}]}
    affinity = dict(wished or {})
    node = dict(affinity.get("nodeAffinity") or {})
    preferred = list(node.get("preferredDuringSchedulingIgnoredDuringExecution") or [])
    node["preferredDuringSchedulingIgnoredDuringExecution"] = [*preferred, {"weight": WEIGHT, "preference": away}]
    return affinity | {"nodeAffinity": node}
