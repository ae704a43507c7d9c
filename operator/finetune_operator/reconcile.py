"""One pass over one job: snapshot, decide, carry out. The only module that writes what a decision asks for.

Every write passes the fence first; a failed write ends the pass, and the next pass decides anew from what is true.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from finetune_contract import names
from finetune_contract.status import FineTuneJobStatus
from finetune_operator.actions import Actions, Annotate
from finetune_operator.clients.agents import Agents
from finetune_operator.clients.cluster import CONFIG_MAPS, JOBS, NETWORK_POLICIES, PODS, Resource
from finetune_operator.clients.informers import InformerSet
from finetune_operator.errors import (
    ConflictError,
    ForbiddenError,
    ForeignError,
    InvalidError,
    LeaseLostError,
    NotFoundError,
)
from finetune_operator.jobs import JobCache
from finetune_operator.observation import Owned, build_snapshot
from finetune_operator.plan.events import Event
from finetune_operator.plan.lifecycle import decide
from finetune_operator.plan.merge_patch import make_merge_patch
from finetune_operator.plan.objects.defaults import TrainerDefaults
from finetune_operator.snapshot import Key, Pod, Rejection, Snapshot

REJECTED_AGAIN_SECONDS: Final = 30.0
"""A quota or a right may change: the refused object is tried again after this."""
log = logging.getLogger(__name__)


class Writer(Protocol):
    """Who writes: clients.cluster.Cluster."""

    async def create(
        self, resource: Resource, namespace: str, body: dict[str, Any], timeout: float = ...
    ) -> dict[str, Any]:
        """Create."""

    async def get(self, resource: Resource, key: Key, timeout: float = ...) -> dict[str, Any]:
        """Read."""

    async def merge(
        self, resource: Resource, key: Key, patch: dict[str, Any], subresource: str | None = None
    ) -> dict[str, Any]:
        """Merge patch."""

    async def delete(
        self, resource: Resource, key: Key, uid: str | None = None, *, grace_seconds: int | None = None
    ) -> None:
        """Delete."""


class Speaker(Protocol):
    """Who writes events: recorder.Recorder."""

    async def record(self, key: Key, uid: str, event: Event) -> None:
        """Write one event about a job."""


@dataclass(frozen=True)
class Caches:
    """What is known of the cluster."""

    jobs: JobCache[Any]
    pods: InformerSet[Pod]
    configs: InformerSet[Owned]
    agents: Agents


class Reconciler:
    """Brings one job after the other forward."""

    def __init__(
        self,
        writer: Writer,
        speaker: Speaker,
        caches: Caches,
        defaults: TrainerDefaults,
        *,
        may_write: Callable[[], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`may_write` is the fence; `clock` gives seconds since 1970."""
        self._writer, self._speaker, self._caches, self._defaults = writer, speaker, caches, defaults
        self._may_write, self._clock = may_write, clock
        self._listening_since: float | None = None

    async def reconcile(self, key: Key) -> float | None:
        """One pass; returns in how many seconds the next is due at the latest."""
        body = self._caches.jobs.get(key)
        if body is None:
            return None
        if self._listening_since is None:
            self._listening_since = self._clock()
        snapshot = self._observe(key, body, self._listening_since)
        actions = decide(snapshot, self._clock())
        rejection = await self._create(snapshot.uid, actions)
        if rejection is None:
            await self._write(snapshot, body, actions)
            return actions.requeue_after
        actions = decide(replace(snapshot, rejection=rejection), self._clock())
        await self._write(snapshot, body, actions)
        return min(REJECTED_AGAIN_SECONDS, actions.requeue_after or REJECTED_AGAIN_SECONDS)

    def _observe(self, key: Key, body: dict[str, Any], listening_since: float) -> Snapshot:
        pods = list(self._caches.pods.members(key))
        answers = {pod.key.name: self._caches.agents.get(pod.key) for pod in pods}
        return build_snapshot(
            body,
            pods,
            self._caches.configs.members(key),
            answers={name: answer for name, answer in answers.items() if answer is not None},
            defaults=self._defaults,
            listening_since=listening_since,
        )

    async def _create(self, uid: str, actions: Actions) -> Rejection | None:
        """Create what is missing; what the API server refuses is an answer, not an error."""
        for manifest in actions.create:
            self._check_fence()
            resource, cache = self._find_home(manifest)
            try:
                created = await self._create_once(resource, uid, manifest)
            except (ForbiddenError, InvalidError, ForeignError) as error:
                log.warning("object refused", extra={"object": manifest["metadata"]["name"], "error": str(error)})
                # What is wrong with a NetworkPolicy is wrong with the installation, and can be mended.
                if manifest["kind"] == "NetworkPolicy":
                    return Rejection(str(error), final=False, what="the job's NetworkPolicy")
                return Rejection(str(error), final=isinstance(error, InvalidError))
            if cache is not None:
                cache.put(created)
        return None

    async def _create_once(self, resource: Resource, uid: str, manifest: dict[str, Any]) -> dict[str, Any]:
        key = Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        try:
            return await self._writer.create(resource, key.namespace, manifest)
        except ConflictError as error:
            # A former leader's, which the watch has not shown yet; anybody else's would never go away by itself.
            known = await self._writer.get(resource, key)
            if known["metadata"].get("labels", {}).get(names.LABEL_JOB_UID) != uid:
                raise ForeignError(f"{key.name} exists and is not this job's: delete it") from error
            return known

    def _find_home(self, manifest: dict[str, Any]) -> tuple[Resource, InformerSet[Pod] | InformerSet[Owned] | None]:
        """Where an object lies, and where it is kept; a NetworkPolicy is there where the ConfigMap is."""
        homes: dict[str, tuple[Resource, InformerSet[Pod] | InformerSet[Owned] | None]] = {
            "Pod": (PODS, self._caches.pods),
            "ConfigMap": (CONFIG_MAPS, self._caches.configs),
            "NetworkPolicy": (NETWORK_POLICIES, None),
        }
        return homes[manifest["kind"]]

    async def _write(self, snapshot: Snapshot, body: dict[str, Any], actions: Actions) -> None:
        """Status, annotations, deletions, events: in this order, so that what is told stands in the status first."""
        if actions.status is not None:
            await self._write_status(snapshot.key, body, actions.status)
        for told in actions.annotate:
            await self._annotate(snapshot.key.namespace, told)
        for name in actions.delete_pods:
            await self._delete(PODS, Key(snapshot.key.namespace, name))
        for name in actions.force_delete_pods:
            await self._delete(PODS, Key(snapshot.key.namespace, name), grace_seconds=0)
        for event in actions.events:
            self._check_fence()
            await self._speaker.record(snapshot.key, snapshot.uid, event)
        if actions.delete_job:
            await self._delete(JOBS, snapshot.key, snapshot.uid)

    async def _write_status(self, key: Key, body: dict[str, Any], status: FineTuneJobStatus) -> None:
        self._check_fence()
        patch = make_merge_patch(body.get("status") or {}, status.to_data())
        metadata = {"resourceVersion": body["metadata"]["resourceVersion"]}
        written = await self._writer.merge(JOBS, key, {"metadata": metadata, "status": patch}, "status")
        self._caches.jobs.put(written)
        log.info("status written", extra={"job": str(key), "phase": status.phase})

    async def _annotate(self, namespace: str, told: Annotate) -> None:
        self._check_fence()
        patch = {"metadata": {"annotations": told.annotations}}
        self._caches.pods.put(await self._writer.merge(PODS, Key(namespace, told.pod), patch))

    async def _delete(
        self, resource: Resource, key: Key, uid: str | None = None, *, grace_seconds: int | None = None
    ) -> None:
        self._check_fence()
        try:
            await self._writer.delete(resource, key, uid, grace_seconds=grace_seconds)
        except NotFoundError:
            log.debug("gone already", extra={"object": str(key)})

    def _check_fence(self) -> None:
        if not self._may_write():
            raise LeaseLostError("another replica may lead by now; nothing is written")
