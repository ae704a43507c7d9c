"""Two Prometheis that look on: one by what the chart's monitors say, one by the pods' annotations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.chart.render import render
from tests.ground import prometheus
from tests.ground.layout import Layout
from tests.ground.prometheus import Prometheus
from tests.ground.scraping import convert_monitors, follow_annotations
from tests.monitoring.rules import RULES

INTERVAL = "2s"
MONITORS = ("metrics.serviceMonitor.enabled=true", "metrics.podMonitor.enabled=true")


@dataclass(frozen=True)
class Scraped:
    """Both, while they run."""

    by_monitors: Prometheus
    """Evaluates the chart's rules too."""
    by_annotations: Prometheus


@contextmanager
def scrape(layout: Layout) -> Iterator[Scraped]:
    """Start both, and stop them in the end."""
    kubeconfig = str(layout.kubeconfig)
    monitors = [each for each in render(*MONITORS) if each["kind"].endswith("Monitor")]
    configured = convert_monitors(monitors, kubeconfig, INTERVAL)
    by_monitors = prometheus.start(layout, "monitors", 9090, configured, sorted(RULES.glob("*.yaml")))
    annotated = prometheus.start(layout, "annotations", 9091, [follow_annotations(kubeconfig, INTERVAL)])
    try:
        yield Scraped(by_monitors, annotated)
    finally:
        prometheus.stop(by_monitors)
        prometheus.stop(annotated)
