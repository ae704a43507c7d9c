"""The rights that the operator needs, asked of the API server before anything begins: a missing one has a name.

Must not wait, and must not judge whether work can begin without them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

from finetune_operator.clients.cluster import CONFIG_MAPS, EVENTS, JOBS, LEASES, NETWORK_POLICIES, PODS, Resource


class Right(NamedTuple):
    """What may be done with objects of one resource."""

    verbs: tuple[str, ...]
    resource: Resource
    subresource: str = ""


class Asker(Protocol):
    """Who asks: clients.cluster.Cluster."""

    async def is_allowed(self, verb: str, resource: Resource, namespace: str | None, subresource: str = "") -> bool:
        """Whether we may."""


NEEDED: Final = (
    Right(("list", "watch", "get", "delete"), JOBS),
    Right(("patch",), JOBS, "status"),
    Right(("list", "watch", "get", "create", "patch", "delete"), PODS),
    Right(("list", "watch", "get", "create"), CONFIG_MAPS),
)
"""In every watched namespace."""
FOR_NETWORKS: Final = (Right(("create", "get"), NETWORK_POLICIES),)
"""There too, where each job has a NetworkPolicy."""
WANTED: Final = (Right(("create", "patch"), EVENTS),)
"""Jobs go on without; nobody hears of them by events."""
LEADERS: Final = (Right(("get", "create", "update"), LEASES),)
"""In the operator's own namespace."""


async def find_missing(asker: Asker, rights: Iterable[Right], namespaces: Iterable[str | None]) -> list[str]:
    """One sentence for each resource and namespace (None: all) where something may not be done."""
    questions = [(right, namespace) for namespace in namespaces for right in rights]
    refused = await asyncio.gather(*(_find_refused(asker, right, namespace) for right, namespace in questions))
    return [
        _describe(right, namespace, verbs)
        for (right, namespace), verbs in zip(questions, refused, strict=True)
        if verbs
    ]


async def _find_refused(asker: Asker, right: Right, namespace: str | None) -> list[str]:
    """The verbs that are not allowed."""
    answers = await asyncio.gather(
        *(asker.is_allowed(verb, right.resource, namespace, right.subresource) for verb in right.verbs)
    )
    return [verb for verb, allowed in zip(right.verbs, answers, strict=True) if not allowed]


def _describe(right: Right, namespace: str | None, verbs: list[str]) -> str:
    what = "/".join(part for part in (right.resource.plural, right.subresource) if part)
    group = f" of {right.resource.group}" if right.resource.group else ""
    where = f"in namespace {namespace}" if namespace else "in all namespaces"
    return (
        f"the operator may not {', '.join(verbs)} {what}{group} {where}: grant it to its service account, "
        "as the chart does with rbac.create"
    )
