"""Writes events (events.k8s.io/v1). The same event of the same job is one object with a series, also after a restart.

Events are a courtesy: one that cannot be written, twice, is logged and dropped.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections import Counter
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from finetune_contract import names
from finetune_operator.clients.cluster import EVENTS, Resource
from finetune_operator.errors import ClusterError, ConflictError, UnavailableError
from finetune_operator.plan.events import Event
from finetune_operator.snapshot import Key

NOTE_LENGTH: Final = 1024
"""Kubernetes' own limit."""
TIMEOUT_SECONDS: Final = 3.0
"""The job waits meanwhile."""
log = logging.getLogger(__name__)


class EventStore(Protocol):
    """Where events lie: clients.cluster.Cluster."""

    async def create(
        self, resource: Resource, namespace: str, body: dict[str, Any], timeout: float = ...
    ) -> dict[str, Any]:
        """Create."""

    async def merge(
        self,
        resource: Resource,
        key: Key,
        patch: dict[str, Any],
        subresource: str | None = None,
        timeout: float | None = ...,
    ) -> dict[str, Any]:
        """Patch."""


class Recorder:
    """Speaks for this replica."""

    def __init__(self, store: EventStore, identity: str) -> None:
        self._store, self._identity = store, identity
        self._counts: Counter[Key] = Counter()

    async def record(self, key: Key, uid: str, event: Event) -> None:
        """Write one event about a job."""
        manifest = make_event(key, uid, event, self._identity, _now())
        try:
            try:
                await self._write(manifest)
            except UnavailableError:
                await self._write_again(manifest)
        except ClusterError as error:
            log.warning("event not written", extra={"job": str(key), "reason": event.reason, "error": str(error)})

    async def _write(self, manifest: dict[str, Any]) -> None:
        metadata = manifest["metadata"]
        try:
            await self._store.create(EVENTS, metadata["namespace"], manifest, timeout=TIMEOUT_SECONDS)
        except ConflictError:
            await self._extend(Key(metadata["namespace"], metadata["name"]))

    async def _write_again(self, manifest: dict[str, Any]) -> None:
        """After a write of which it is not known whether it was carried out: what is there was not said twice."""
        with contextlib.suppress(ConflictError):
            await self._store.create(EVENTS, manifest["metadata"]["namespace"], manifest, timeout=TIMEOUT_SECONDS)

    async def _extend(self, key: Key) -> None:
        """The event is there already. Counted since this process began, so that no right to read events is needed."""
        self._counts[key] += 1
        series = {"count": 1 + self._counts[key], "lastObservedTime": _now()}
        await self._store.merge(EVENTS, key, {"series": series}, timeout=TIMEOUT_SECONDS)


def make_event(key: Key, uid: str, event: Event, identity: str, moment: str) -> dict[str, Any]:
    """The object of an event; equal events of one job have the same name."""
    digest = hashlib.sha256("\n".join([uid, event.type, event.reason, event.note]).encode()).hexdigest()
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{key.name}.{digest[:16]}", "namespace": key.namespace},
        "regarding": {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": key.name,
            "namespace": key.namespace,
            "uid": uid,
        },
        "type": event.type,
        "reason": event.reason,
        "action": event.action,
        "note": event.note[:NOTE_LENGTH],
        "eventTime": moment,
        "reportingController": f"{names.GROUP}/{names.MANAGED_BY}",
        "reportingInstance": identity[:128],
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
