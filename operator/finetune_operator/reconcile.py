"""One pass over one job: snapshot, decide, carry out. The only module that writes what a decision asks for.

Every write passes the fence first; a failed write ends the pass, and the next pass decides anew from what is true.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, Protocol

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
from finetune_operator.log_lines import name_job, tell_changes
from finetune_operator.observation import Owned, build_snapshot
from finetune_operator.plan.attempts import find_attempt
from finetune_operator.plan.events import Event
from finetune_operator.plan.lifecycle import decide
from finetune_operator.plan.merge_patch import make_merge_patch
from finetune_operator.plan.numbers import are_numbers_alone, wait_for_numbers
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


class _Written(NamedTuple):
    """What is remembered of a job between two passes."""

    told: float
    """When the newest of the news were heard that have been looked at; seconds since 1970."""
    figures_due: float
    """When figures alone may be written again; seconds since 1970."""
    figures_version: str | None = None
    """resourceVersion of our last write, where it told figures alone."""


class Again(NamedTuple):
    """When a job is looked at again although nothing is heard of it."""

    after: float | None = None
    """Seconds until time alone may change the decision; None: never."""
    figures_after: float | None = None
    """Seconds until figures that move may be told again; None: nobody knows of any."""


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
        note_lag: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """`may_write` is the fence; `clock` gives seconds since 1970.

        `note_lag` is told how old the news are of which a status was written.
        """
        self._writer, self._speaker, self._caches, self._defaults = writer, speaker, caches, defaults
        self._may_write, self._clock, self._note_lag = may_write, clock, note_lag
        self._listening_since: float | None = None
        self._written: dict[Key, _Written] = {}

    async def reconcile(self, key: Key) -> Again:
        """One pass; returns when the next is due at the latest."""
        body = self._caches.jobs.get(key)
        if body is None:
            self._written.pop(key, None)
            return Again()
        if self._listening_since is None:
            self._listening_since = self._clock()
        snapshot = self._observe(key, body, self._listening_since)
        actions = decide(snapshot, self._clock())
        rejection = await self._create(snapshot, actions)
        if rejection is not None:
            actions = decide(replace(snapshot, rejection=rejection), self._clock())
        figures_version = await self._write(snapshot, body, actions)
        self._settle(snapshot, actions, figures_version)
        after = actions.requeue_after
        if rejection is not None:
            after = min(REJECTED_AGAIN_SECONDS, after or REJECTED_AGAIN_SECONDS)
        is_under_way = find_attempt(actions.status or snapshot.status) is not None
        return Again(after, (self.wait_for_figures(key) or None) if is_under_way else None)

    async def refresh_figures(self, key: Key) -> None:
        """Ask for the figures of a job that may be written now: they shall be as new as the write that tells them."""
        followers = [pod for pod in self._caches.pods.members(key) if pod.is_running and pod.attempt is not None]
        if followers and self.wait_for_figures(key) == 0.0:
            await self._caches.agents.refresh(min(followers, key=lambda pod: pod.node_index).key)

    def wait_for_figures(self, key: Key) -> float:
        """Seconds until figures alone may be written again; 0: now."""
        written = self._written.get(key)
        return max(0.0, written.figures_due - self._clock()) if written is not None else 0.0

    def wrote_figures(self, key: Key, version: str) -> bool:
        """Whether this version of the job is our own write of figures alone: seeing it changes no decision."""
        written = self._written.get(key)
        return written is not None and written.figures_version == version

    def _settle(self, snapshot: Snapshot, actions: Actions, figures_version: str | None) -> None:
        """After a pass: what was told until now stands in the status, or does not matter to it."""
        now = self._clock()
        told = max((answer.told for answer in snapshot.answers.values()), default=0.0)
        before = self._written.get(snapshot.key)
        status = actions.status or snapshot.status
        self._written[snapshot.key] = _Written(told, now + wait_for_numbers(status, now), figures_version)
        if actions.status is None:
            return
        if before is not None and told > before.told:
            self._note_lag(now - told)
        if _has_ended(snapshot.status, actions.status):
            # The next attempt shall not begin with an agent that died since it was asked.
            for pod in snapshot.pods:
                self._caches.agents.ask(pod.key)

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

    async def _create(self, snapshot: Snapshot, actions: Actions) -> Rejection | None:
        """Create what is missing; what the API server refuses is an answer, not an error."""
        for manifest in actions.create:
            self._check_fence()
            resource, cache = self._find_home(manifest)
            try:
                created = await self._create_once(resource, snapshot.uid, manifest)
            except (ForbiddenError, InvalidError, ForeignError) as error:
                refused = {"object": manifest["metadata"]["name"], "error": str(error)}
                log.warning("object refused", extra={**name_job(snapshot.key, snapshot.status), **refused})
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

    async def _write(self, snapshot: Snapshot, body: dict[str, Any], actions: Actions) -> str | None:
        """Status, annotations, deletions, events: in this order, so that what is told stands in the status first.

        Returns the job's new resourceVersion where figures alone were written.
        """
        figures_version = None
        if actions.status is not None:
            version = await self._write_status(snapshot.key, body, actions.status)
            figures_version = version if are_numbers_alone(snapshot.status, actions.status) else None
        tell_changes(log, snapshot.key, snapshot.status, actions.status or snapshot.status, actions.events)
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
        return figures_version

    async def _write_status(self, key: Key, body: dict[str, Any], status: FineTuneJobStatus) -> str:
        self._check_fence()
        patch = make_merge_patch(body.get("status") or {}, status.to_data())
        metadata = {"resourceVersion": body["metadata"]["resourceVersion"]}
        written = await self._writer.merge(JOBS, key, {"metadata": metadata, "status": patch}, "status")
        self._caches.jobs.put(written)
        log.debug("status written", extra=name_job(key, status))
        return str(written["metadata"]["resourceVersion"])

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
            log.debug("gone already", extra={"namespace": key.namespace, "object": key.name})

    def _check_fence(self) -> None:
        if not self._may_write():
            raise LeaseLostError("another replica may lead by now; nothing is written")


def _has_ended(before: FineTuneJobStatus, after: FineTuneJobStatus) -> bool:
    """The attempt that was under way is no more."""
    known, now = find_attempt(before), find_attempt(after)
    return known is not None and (now is None or now.number != known.number)
