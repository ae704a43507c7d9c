"""Metrics of the operator, by controller-runtime's names, so that existing dashboards fit. Counts, decides nothing."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Final, get_args

import aiohttp
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from finetune_contract.status import Phase

CONTROLLER: Final = "finetunejob"
_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """All metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._reconciles = Counter(
            "controller_runtime_reconcile", "Reconciliations.", ["controller", "result"], registry=registry
        )
        self._seconds = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "Seconds a reconciliation.",
            ["controller"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._depth = Gauge("workqueue_depth", "Keys that wait.", ["name"], registry=registry)
        self._adds = Counter("workqueue_adds", "Keys that came in.", ["name"], registry=registry)
        self._retries = Counter("workqueue_retries", "Keys that came back after an error.", ["name"], registry=registry)
        self._waits = Histogram(
            "workqueue_queue_duration_seconds", "Seconds a key waited.", ["name"], buckets=_BUCKETS, registry=registry
        )
        self._work = Histogram(
            "workqueue_work_duration_seconds", "Seconds a key took.", ["name"], buckets=_BUCKETS, registry=registry
        )
        self._requests = Counter(
            "rest_client_requests", "Requests to the API server.", ["code", "method"], registry=registry
        )
        self._leader = Gauge("leader_election_master_status", "1: this replica leads.", ["name"], registry=registry)

    def follow(self, list_phases: Callable[[], Iterable[str]], is_leading: Callable[[], bool], lease: str) -> None:
        """Ask for the jobs' phases and for leadership whenever the metrics are read."""
        self._leader.labels(lease).set_function(lambda: float(is_leading()))
        self._registry.register(_Jobs(list_phases))

    def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def reconciled(self, result: str, seconds: float) -> None:
        """A reconciliation ended: success, error or requeue_after."""
        self._reconciles.labels(CONTROLLER, result).inc()
        self._seconds.labels(CONTROLLER).observe(seconds)
        self._work.labels(CONTROLLER).observe(seconds)

    def added(self, depth: int) -> None:
        """A key came into the queue."""
        self._adds.labels(CONTROLLER).inc()
        self._depth.labels(CONTROLLER).set(depth)

    def taken(self, depth: int, waited: float) -> None:
        """A key went to a worker."""
        self._depth.labels(CONTROLLER).set(depth)
        self._waits.labels(CONTROLLER).observe(waited)

    def retried(self) -> None:
        """A key comes back after an error."""
        self._retries.labels(CONTROLLER).inc()

    def make_trace(self) -> aiohttp.TraceConfig:
        """Counts the requests of a session."""

        async def end(
            session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestEndParams
        ) -> None:
            self._requests.labels(str(params.response.status), params.method).inc()

        async def fail(
            session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestExceptionParams
        ) -> None:
            self._requests.labels("<error>", params.method).inc()

        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(end)
        trace.on_request_exception.append(fail)
        return trace


class _Jobs(Collector):
    """finetune_jobs{phase}, counted when somebody looks."""

    def __init__(self, list_phases: Callable[[], Iterable[str]]) -> None:
        self._list_phases = list_phases

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """One figure a phase."""
        family = GaugeMetricFamily("finetune_jobs", "FineTuneJobs by phase.", labels=["phase"])
        tally = Tally(self._list_phases())
        for phase in get_args(Phase):
            family.add_metric([phase], tally[phase])
        return [family]
