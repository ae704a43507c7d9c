"""Writes events (events.k8s.io/v1). The same event of the same job is one object with a series, also after a restart.

Events are a courtesy: one that cannot be written, twice, is logged and dropped, and so is what a job says too often.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Generic, Protocol, TypeVar

from finetune_contract import names
from finetune_operator.clients.cluster import EVENTS, Resource
from finetune_operator.errors import ClusterError, ConflictError, UnavailableError
from finetune_operator.log_lines import name_job
from finetune_operator.plan.events import Event
from finetune_operator.snapshot import Key

NOTE_LENGTH: Final = 1024
"""Kubernetes' own limit."""
TIMEOUT_SECONDS: Final = 3.0
"""The job waits meanwhile."""
BURST: Final = 10
"""Events of one reason that a job may say at once."""
AGAIN_SECONDS: Final = 300.0
"""After these, one more every so often: checkpoints and restarts come without an end."""
REMEMBERED: Final = 10_000
"""Jobs and events of which something is remembered; what is forgotten was long ago."""
K = TypeVar("K")
V = TypeVar("V")
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

    def __init__(
        self,
        store: EventStore,
        identity: str,
        count: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`count` is told type and reason of each event that was written."""
        self._store, self._identity, self._count, self._clock = store, identity, count, clock
        self._counts: _Memory[str, int] = _Memory()
        self._allowances: _Memory[tuple[str, str], tuple[float, float]] = _Memory()

    async def record(self, key: Key, uid: str, event: Event) -> None:
        """Write one event about a job."""
        if not self._may_say(uid, event.reason):
            log.debug("event not written: too many of them", extra=_name(key, event))
            return
        manifest = make_event(key, uid, event, self._identity, _now())
        try:
            try:
                await self._write(manifest)
            except UnavailableError:
                await self._write_again(manifest)
        except ClusterError as error:
            log.warning("event not written", extra={**_name(key, event), "error": str(error)})
        else:
            self._count(event.type, event.reason)

    def _may_say(self, uid: str, reason: str) -> bool:
        """Take one from what the job may still say of this."""
        now = self._clock()
        left, at = self._allowances.get((uid, reason), (float(BURST), now))
        left = min(float(BURST), left + (now - at) / AGAIN_SECONDS)
        self._allowances.put((uid, reason), (left - 1.0 if left >= 1.0 else left, now))
        return left >= 1.0

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
        count = self._counts.get(str(key), 1) + 1
        self._counts.put(str(key), count)
        series = {"count": count, "lastObservedTime": _now()}
        await self._store.merge(EVENTS, key, {"series": series}, timeout=TIMEOUT_SECONDS)


class _Memory(Generic[K, V]):
    """The last so many things by key, so that no operator grows by the jobs that it has ever seen."""

    def __init__(self) -> None:
        self._values: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K, default: V) -> V:
        return self._values.get(key, default)

    def put(self, key: K, value: V) -> None:
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > REMEMBERED:
            self._values.popitem(last=False)


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


def _name(key: Key, event: Event) -> dict[str, Any]:
    return {**name_job(key), "event": event.reason}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
