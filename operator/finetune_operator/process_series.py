"""Series about this process: its caches and its event loop, read when somebody looks. Counts, decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from finetune_operator.health import Source


class ProcessSeries(Collector):
    """Caches of several namespaces count as one: all their objects, the age of the most silent."""

    def __init__(self, list_sources: Callable[[], Iterable[Source]], lag: Callable[[], float]) -> None:
        self._list_sources, self._lag = list_sources, lag

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """One figure a resource, and one for the loop."""
        objects = GaugeMetricFamily("finetune_informer_objects", "Objects held.", labels=["resource"])
        ages = GaugeMetricFamily(
            "finetune_informer_age_seconds",
            "Seconds since something was last heard of the API server.",
            labels=["resource"],
        )
        held: dict[str, int] = {}
        silent: dict[str, float] = {}
        for source in self._list_sources():
            held[source.resource] = held.get(source.resource, 0) + source.objects
            silent[source.resource] = max(silent.get(source.resource, 0.0), source.silent_seconds)
        for resource, count in held.items():
            objects.add_metric([resource], count)
            ages.add_metric([resource], silent[resource])
        lag = GaugeMetricFamily(
            "finetune_event_loop_lag_seconds",
            "How late the event loop ran what was due, at worst in the last minute.",
            value=self._lag(),
        )
        return [objects, ages, lag]
