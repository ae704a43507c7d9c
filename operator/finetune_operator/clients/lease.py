"""Leader election by a Lease: at most one replica writes.

Time is this process's monotonic clock; clocks of other replicas are never compared, only whether their record moved.
A leader that cannot renew stops before anybody else may begin. Must not know what leading means.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from finetune_operator.clients.cluster import LEASES, Resource
from finetune_operator.errors import ClusterError, ConflictError, LeaseLostError, NotFoundError
from finetune_operator.snapshot import Key

log = logging.getLogger(__name__)


class LeaseStore(Protocol):
    """Where the Lease lies: clients.cluster.Cluster."""

    async def get(self, resource: Resource, key: Key, timeout: float = ...) -> dict[str, Any]:
        """Read."""

    async def create(
        self, resource: Resource, namespace: str, body: dict[str, Any], timeout: float = ...
    ) -> dict[str, Any]:
        """Create."""

    async def replace(self, resource: Resource, key: Key, body: dict[str, Any], timeout: float = ...) -> dict[str, Any]:
        """Replace."""


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds. A leader that has not renewed for `renew_deadline` stops; others take over after `duration`."""

    duration: float = 15.0
    renew_deadline: float = 10.0
    retry: float = 2.0
    """From the begin of one renewal to the begin of the next."""
    patience: float = 4.0
    """How long one may take: a busy machine answers late, and two must fit into `renew_deadline`."""
    look: float = 0.5
    """Between two looks at another's lease: one that is given away is to be seen soon."""


class Elector:
    """One candidate."""

    def __init__(self, store: LeaseStore, key: Key, identity: str, times: LeaseTimes | None = None) -> None:
        self._store, self._key, self._identity = store, key, identity
        self._times = times or LeaseTimes()
        self._lease: dict[str, Any] | None = None
        """As we wrote it last."""
        self._seen: tuple[object, object] = (None, None)
        self._seen_at = 0.0
        self._renewed_at: float | None = None
        self._trouble = ""
        self._turn = asyncio.Lock()
        """Held while the lease is asked for or given away: whoever gives it away does not take it back."""
        self._retired = False
        self.leading = asyncio.Event()

    def is_leading(self) -> bool:
        """Whether a write is allowed at this moment."""
        return self._renewed_at is not None and time.monotonic() - self._renewed_at < self._times.renew_deadline

    def seconds_left(self) -> float:
        """How long nobody else can lead: what is written now must have ended by then."""
        return 0.0 if self._renewed_at is None else self._renewed_at + self._times.duration - time.monotonic()

    async def run(self) -> None:
        """Try to lead, then renew, for ever; LeaseLostError when leadership could not be kept."""
        while True:
            # Counted from before the request: the others count from when they see its effect.
            begun = time.monotonic()
            async with self._turn:
                if not self._retired:
                    await self._take_turn(begun)
            pause = begun + self._times.retry - time.monotonic() if self.leading.is_set() else self._times.look
            await asyncio.sleep(max(0.0, pause))

    async def release(self) -> None:
        """Give the lease away for good, so that another replica need not wait; after this no write is allowed."""
        async with self._turn:
            self._retired, self._renewed_at = True, None
            if not self.leading.is_set():
                return
            self.leading.clear()
            try:
                async with asyncio.timeout(self._times.patience):
                    lease = await self._store.get(LEASES, self._key)
                    if lease["spec"].get("holderIdentity") == self._identity:
                        lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
                        await self._store.replace(LEASES, self._key, lease, timeout=self._times.patience)
                        log.info("lease given away", extra={"lease": str(self._key)})
            except (ClusterError, TimeoutError) as error:
                log.warning("lease not released, it runs out by itself", extra={"error": str(error)})

    async def _take_turn(self, begun: float) -> None:
        if await self._try_in_time():
            self._renewed_at = begun
            if not self.leading.is_set():
                log.info("leading", extra={"lease": str(self._key), "identity": self._identity})
                self.leading.set()
        elif self.leading.is_set() and not self.is_leading():
            raise LeaseLostError(f"the lease {self._key} could not be renewed in time")

    async def _try_in_time(self) -> bool:
        try:
            async with asyncio.timeout(self._find_patience()):
                taken = await self._try()
        except ConflictError:
            return False
        except (ClusterError, TimeoutError) as error:
            self._complain(str(error) or "no answer in time")
            return False
        self._trouble = ""
        return taken

    def _complain(self, trouble: str) -> None:
        """Say once what is wrong for as long as it stays the same."""
        if trouble != self._trouble:
            log.warning("lease not reached", extra={"lease": str(self._key), "error": trouble})
            self._trouble = trouble

    def _find_patience(self) -> float:
        """A leader waits no longer than it leads."""
        if self._renewed_at is None:
            return self._times.patience
        left = self._renewed_at + self._times.renew_deadline - time.monotonic()
        return min(self._times.patience, max(0.0, left))

    async def _try(self) -> bool:
        if self._lease is not None and self.leading.is_set():
            # Nobody else should have written since: one request instead of two, which matters where each is slow.
            renewed = {**self._lease, "spec": self._lease["spec"] | self._make_spec()}
            with contextlib.suppress(ConflictError, NotFoundError):
                self._lease = await self._replace(renewed)
                return True
        self._lease = None
        try:
            lease = await self._store.get(LEASES, self._key)
        except NotFoundError:
            self._lease = await self._store.create(
                LEASES, self._key.namespace, self._make_lease(), timeout=self._times.patience
            )
            return True
        spec = lease["spec"]
        mine = spec.get("holderIdentity") == self._identity
        if not mine and self._is_held(spec):
            if self.leading.is_set():
                raise LeaseLostError(f"the lease {self._key} was taken by {spec['holderIdentity']}")
            return False
        lease["spec"] = spec | self._make_spec()
        if not mine:
            lease["spec"] |= {"acquireTime": _now(), "leaseTransitions": spec.get("leaseTransitions", 0) + 1}
        self._lease = await self._replace(lease)
        return True

    async def _replace(self, lease: dict[str, Any]) -> dict[str, Any]:
        return await self._store.replace(LEASES, self._key, lease, timeout=self._times.patience)

    def _is_held(self, spec: dict[str, Any]) -> bool:
        record = (spec.get("holderIdentity"), spec.get("renewTime"))
        if record != self._seen:
            self._seen, self._seen_at = record, time.monotonic()
        return bool(record[0]) and time.monotonic() - self._seen_at < spec.get("leaseDurationSeconds", 0)

    def _make_spec(self) -> dict[str, Any]:
        return {
            "holderIdentity": self._identity,
            # Whole seconds only; rounded up, for the others must never be too early.
            "leaseDurationSeconds": -int(-self._times.duration // 1),
            "renewTime": _now(),
        }

    def _make_lease(self) -> dict[str, Any]:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._key.name, "namespace": self._key.namespace},
            "spec": self._make_spec() | {"acquireTime": _now(), "leaseTransitions": 0},
        }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
