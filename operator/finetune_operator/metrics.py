"""Metrics of the operator, by controller-runtime's names, so that existing dashboards fit. Counts, decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Final

import aiohttp
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from finetune_operator.health import Source
from finetune_operator.job_series import JobDigest, JobSeries
from finetune_operator.process_series import ProcessSeries

CONTROLLER: Final = "finetunejob"
_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """All metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        # Otherwise a second series for each counter, which nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
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
        self._events = Counter("finetune_events", "Kubernetes events written.", ["type", "reason"], registry=registry)
        self._lag = Histogram(
            "finetune_status_lag_seconds",
            "From what an agent said to the status that says it.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self._questions = Counter("finetune_agent_requests", "Questions to agents.", ["result"], registry=registry)
        self._leader = Gauge("leader_election_master_status", "1: this replica leads.", ["name"], registry=registry)

    def follow(
        self, list_digests: Callable[[], Iterable[JobDigest]], is_leading: Callable[[], bool], lease: str
    ) -> None:
        """Ask for the jobs and for leadership whenever the metrics are read."""
        self._leader.labels(lease).set_function(lambda: float(is_leading()))
        self._registry.register(JobSeries(list_digests, is_leading))

    def watch_process(self, list_sources: Callable[[], Iterable[Source]], lag: Callable[[], float]) -> None:
        """Ask for the caches and the event loop whenever the metrics are read."""
        self._registry.register(ProcessSeries(list_sources, lag))

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

    def said(self, type_: str, reason: str) -> None:
        """An event was written."""
        self._events.labels(type_, reason).inc()

    def asked(self, result: str) -> None:
        """An agent was asked: answered or silent."""
        self._questions.labels(result).inc()

    def told(self, seconds: float) -> None:
        """A status was written so many seconds after an agent said what it says."""
        self._lag.observe(seconds)

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
