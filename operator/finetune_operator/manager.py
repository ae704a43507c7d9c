"""The running operator: wires caches, queue, elector and workers together, starts them in order, stops them in order.

Must decide nothing about a job.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Collection, Mapping
from typing import Any, Final

from finetune_contract import names
from finetune_operator.clients.agents import Agents
from finetune_operator.clients.cluster import CONFIG_MAPS, JOBS, PODS, Cluster
from finetune_operator.clients.informers import Informer, InformerSet
from finetune_operator.clients.lease import Elector
from finetune_operator.clients.queue import WorkQueue
from finetune_operator.errors import (
    ClusterError,
    ConflictError,
    LeaseLostError,
    NotFoundError,
    OperatorError,
    UnavailableError,
)
from finetune_operator.health import Source, find_illness, find_unready
from finetune_operator.heartbeat import Heartbeat
from finetune_operator.job_series import read_digest
from finetune_operator.jobs import JobCache, read_key
from finetune_operator.log_lines import name_held_job, name_job
from finetune_operator.metrics import Metrics
from finetune_operator.observation import SELECTOR, Owned, read_owned, read_pod
from finetune_operator.reconcile import Caches, Reconciler
from finetune_operator.recorder import Recorder
from finetune_operator.settings import Settings
from finetune_operator.snapshot import Key, Pod
from finetune_operator.start import Start

LEASE_NAME: Final = names.MANAGED_BY
RESYNC_SECONDS: Final = 600.0
DRAIN_SECONDS: Final = 20.0
PATIENT: Final = 6
"""Jobs without news that are worked on at a time: figures of thousands of jobs must not keep the API server busy."""
log = logging.getLogger(__name__)


class Manager:
    """Everything that lives as long as the process."""

    def __init__(self, settings: Settings, cluster: Cluster, metrics: Metrics) -> None:
        self._settings, self._cluster, self._metrics = settings, cluster, metrics
        self.jobs = JobCache(read_digest)
        self.queue: WorkQueue[Key] = WorkQueue(metrics, patient=PATIENT)
        self.agents = Agents(
            self._find_pod,
            self._hear_agent,
            on_figures=self._hear_figures,
            on_silence=self._miss_agent,
            count=metrics.asked,
            port=settings.agent_port,
        )
        self.pods = InformerSet({scope: self._make_pod_informer(scope) for scope in settings.scopes})
        self.configs = InformerSet({scope: self._make_config_informer(scope) for scope in settings.scopes})
        self._informers: tuple[Informer[Pod] | Informer[Owned], ...] = (*self.pods.all(), *self.configs.all())
        self._elector = Elector(cluster, Key(settings.namespace, LEASE_NAME), settings.identity)
        cluster.limit_writes(self._elector.seconds_left)
        self._reconciler = Reconciler(
            cluster,
            Recorder(cluster, settings.identity, metrics.said),
            Caches(self.jobs, self.pods, self.configs, self.agents),
            settings.trainer,
            may_write=self._elector.is_leading,
            note_lag=metrics.told,
        )
        self._workers: list[asyncio.Task[None]] = []
        self._turn = asyncio.Lock()
        self._start = Start(cluster, settings)
        self._heartbeat = Heartbeat()
        self._jobs_heard = time.monotonic()
        self._has_listed_jobs = False
        self.served = asyncio.Event()
        """Set once the API server has let us list FineTuneJobs and all else: kopf may watch them."""
        metrics.follow(self.jobs.list_digests, self._elector.is_leading, LEASE_NAME)
        metrics.watch_process(self.list_sources, lambda: self._heartbeat.worst_seconds)

    async def run(self) -> None:
        """Sync, be elected, work, for ever; raises where this replica must not go on."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._heartbeat.run())
            await self._start.until_done(self._start.check_rights)
            for informer in self._informers:
                group.create_task(informer.run())
            await self._start.until_done(self._list_jobs)
            self._has_listed_jobs = True
            for informer in self._informers:
                await informer.synced.wait()
            # kopf lists all jobs once more: not while the caches fill.
            self.served.set()
            group.create_task(self._elector.run())
            await self._elector.leading.wait()
            # An agent takes an answer that was read for an answer that was heard: only the leader asks.
            group.create_task(self.agents.run())
            await self._start.until_done(self._catch_up)
            # As long as another replica led nobody was to take them.
            self.queue.count_waiting_from_now()
            self._workers = [group.create_task(self._work()) for _ in range(self._settings.workers)]
            group.create_task(self._resync_forever())

    async def stop(self) -> None:
        """Finish what is under way, hand out nothing more, give the lease away."""
        self.queue.close()
        if self._workers:
            await asyncio.wait(self._workers, timeout=DRAIN_SECONDS)
        await self._elector.release()

    def hear(self) -> None:
        """The API server has answered the watch of jobs."""
        self._jobs_heard = time.monotonic()

    def see(self, type_: str | None, body: Mapping[str, Any]) -> None:
        """A job was listed, came, changed or went."""
        self.hear()
        key = read_key(body)
        if type_ == "DELETED":
            self._drop(key)
        else:
            self.jobs.put(body)
            if self._reconciler.wrote_figures(key, body["metadata"]["resourceVersion"]):
                return
        # After our own write too: what follows from the new status is decided by another pass.
        self.queue.add(key, first=True)

    def check_ready(self) -> str | None:
        """Ready: every cache is complete. A replica that waits for its turn is ready too."""
        return find_unready(self._start.trouble, self.list_sources())

    def check_alive(self) -> str | None:
        """Alive: the event loop turns, the API server is heard, and the queue moves."""
        return find_illness(
            self.list_sources(),
            waiting_seconds=self.queue.oldest_seconds if self._workers else 0.0,
            late_seconds=self._heartbeat.overdue_seconds,
        )

    def list_sources(self) -> list[Source]:
        """All caches and how they hear of the API server."""
        jobs = Source(JOBS.plural, len(self.jobs), self._has_listed_jobs, time.monotonic() - self._jobs_heard)
        return [jobs, *(_describe(informer) for informer in self._informers)]

    async def _list_jobs(self) -> None:
        """Read all jobs, as a process does that knows none."""
        for scope in self._settings.scopes:
            alive, position = set[Key](), 0
            async for page in self._cluster.list_pages(JOBS, scope):
                position = position or page.position
                alive |= {self.jobs.put(body) for body in page.items}
            self._end_listing(alive, position, scope)

    async def _catch_up(self) -> None:
        """Read what changed and our watch has not brought (yet)."""
        for scope in self._settings.scopes:
            page = await self._cluster.list_metadata(JOBS, scope)
            await asyncio.gather(*(self._refresh(key) for key in self.jobs.find_outdated(page)))
            self._end_listing({read_key(body) for body in page.items}, page.position, scope)

    def _end_listing(self, alive: Collection[Key], position: int, scope: str | None) -> None:
        """Forget what is gone, and look at all that is there."""
        ghosts = self.jobs.find_ghosts(alive, position, scope)
        for key in ghosts:
            self._drop(key)
        for key in (*ghosts, *alive):
            self.queue.add(key)

    async def _resync_forever(self) -> None:
        while True:
            await asyncio.sleep(RESYNC_SECONDS * random.uniform(0.8, 1.2))
            try:
                await self._catch_up()
            except ClusterError as error:
                log.warning("jobs not listed, trying again later", extra={"error": str(error)})

    async def _work(self) -> None:
        while (key := await self.queue.get()) is not None:
            await self._take_turn()
            begun = time.monotonic()
            result = "error"
            try:
                result = await self._reconcile(key)
            finally:
                self._metrics.reconciled(result, time.monotonic() - begun)
                self.queue.done(key)

    async def _take_turn(self) -> None:
        """At most one pass begins in one turn of the event loop.

        A pass that has nothing to write awaits nothing: thousands of them, one after the other, would keep the lease
        from being renewed and probes from being answered.
        """
        async with self._turn:
            await asyncio.sleep(0)

    async def _reconcile(self, key: Key) -> str:
        try:
            if self.queue.is_patient(key):
                await self._reconciler.refresh_figures(key)
            again = await self._reconciler.reconcile(key)
        except LeaseLostError:
            raise
        except OperatorError as error:
            if isinstance(error, ConflictError):
                await self._refresh(key)
            asked_for = error.retry_after if isinstance(error, UnavailableError) else None
            seconds = self.queue.retry(key, asked_for or 0.0)
            log.warning(
                "reconciliation broke off, trying again",
                extra={**self._name(key), "error": f"{type(error).__name__}: {error}", "seconds": round(seconds, 3)},
            )
            return "error"
        except Exception:
            # A defect in one job's handling must not stop the others.
            self.queue.retry(key)
            log.exception("reconciliation failed", extra=self._name(key))
            return "error"
        self.queue.forget(key)
        if again.figures_after is not None:
            self.queue.add_after(key, again.figures_after)
        if again.after is None:
            return "success"
        self.queue.add_after(key, again.after, first=True)
        return "requeue_after"

    async def _refresh(self, key: Key) -> None:
        """Read a job that has changed since it was seen, so that going on does not hang on the watch."""
        try:
            self.jobs.put(await self._cluster.get(JOBS, key))
        except NotFoundError:
            self._drop(key)
        except ClusterError as error:
            log.debug("job not read", extra={**name_job(key), "error": str(error)})

    def _name(self, key: Key) -> dict[str, Any]:
        return name_held_job(key, self.jobs.get(key) or {})

    def _drop(self, key: Key) -> None:
        self.jobs.remove(key)
        self.queue.drop(key)

    def _make_pod_informer(self, scope: str | None) -> Informer[Pod]:
        return Informer(
            self._cluster,
            PODS,
            scope,
            selector=SELECTOR,
            read=read_pod,
            group=lambda pod: Key(pod.key.namespace, pod.job),
            on_change=self._see_pod,
        )

    def _make_config_informer(self, scope: str | None) -> Informer[Owned]:
        return Informer(
            self._cluster,
            CONFIG_MAPS,
            scope,
            selector=SELECTOR,
            read=read_owned,
            group=lambda owned: Key(owned.key.namespace, owned.job),
            on_change=self._see_config,
        )

    def _see_pod(self, key: Key, before: Pod | None, after: Pod | None) -> None:
        pod = after or before
        assert pod is not None, "a change has at least one side"
        self.queue.add(Key(key.namespace, pod.job), first=True)
        if after is None:
            self.agents.forget(key)
        elif after.is_running and (before is None or _describe_state(before) != _describe_state(after)):
            # Readiness changes with news. Of the rest the agent will soon have something to tell.
            self.agents.ask(key)

    def _see_config(self, key: Key, before: Owned | None, after: Owned | None) -> None:
        owned = after or before
        assert owned is not None, "a change has at least one side"
        self.queue.add(Key(key.namespace, owned.job), first=True)

    def _find_pod(self, key: Key) -> Pod | None:
        """The pod, as long as there is something to hear from its agent."""
        pod = self.pods.get(key)
        return pod if pod is not None and pod.is_running and pod.finish is None else None

    def _hear_agent(self, pod: Pod) -> None:
        # News go before figures, of which there are many more where thousands of jobs train.
        self.queue.add(Key(pod.key.namespace, pod.job), first=True)

    def _miss_agent(self, pod: Pod) -> None:
        # From now on time may make a loss of it. Where thousands fall silent at once that is no news of any of them.
        self.queue.add(Key(pod.key.namespace, pod.job))

    def _hear_figures(self, pod: Pod) -> None:
        job = Key(pod.key.namespace, pod.job)
        self.queue.add_after(job, self._reconciler.wait_for_figures(job))


def _describe_state(pod: Pod) -> tuple[object, ...]:
    return pod.is_running, pod.ready, pod.deleting, pod.attempt, pod.stop


def _describe(informer: Informer[Any]) -> Source:
    return Source(informer.resource, len(informer), informer.synced.is_set(), informer.silent_seconds, informer.trouble)
