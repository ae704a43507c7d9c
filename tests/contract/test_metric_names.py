"""docs/reference/metrics.md against what agents and operator export: names, types and labels, both ways."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client import CollectorRegistry

from finetune_operator.metrics import Metrics as OperatorMetrics
from finetune_trainer.agent.metrics import Metrics as AgentMetrics
from tests.agent.make import make_run

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
AGENT, JOBS, OPERATOR = "From trainer pods", "From the operator, about jobs", "From the operator, about itself"
OWN_LABELS = {AGENT: {"namespace", "job", "node"}, JOBS: {"namespace", "job"}, OPERATOR: set[str]()}
ROW = re.compile(r"^\| `(?P<name>[a-z_]+)(?:{(?P<labels>[a-z_,]+)})?` \| (?P<type>[a-z]+) \| .+ \|$")


class Series(NamedTuple):
    """One promise."""

    name: str
    type: str
    labels: frozenset[str]


def test_agents_export_what_is_documented() -> None:
    metrics = AgentMetrics(make_run("file:///store"), 0, 1e12)
    assert list_exported(metrics._registry) == list_documented(AGENT)


def test_operator_exports_what_is_documented() -> None:
    metrics = OperatorMetrics()
    metrics.follow(lambda: (), lambda: True, "lease")
    metrics.watch_process(lambda: (), lambda: 0.0)
    assert list_exported(metrics._registry) == list_documented(JOBS) | list_documented(OPERATOR)


@pytest.mark.parametrize("section", [AGENT, JOBS, OPERATOR])
def test_names_say_what_the_series_are(section: str) -> None:
    """As Prometheus advises: counters end in _total and nothing else does, units are basic and stand at the end."""
    for series in list_documented(section):
        assert (series.type == "counter") == series.name.endswith("_total"), series
        assert not re.search(r"_(milliseconds|minutes|hours|kilobytes|percent)(_|$)", series.name), series


def list_documented(section: str) -> set[Series]:
    """The rows of the tables below a heading."""
    text = PAGE.read_text(encoding="utf-8").split(f"\n## {section}\n")[1].split("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    found = set()
    for row in rows:
        match = ROW.match(row)
        assert match is not None, f"one series a row, its labels in braces, its type, its meaning: {row}"
        labels = set(match["labels"].split(",")) if match["labels"] else set[str]()
        own = {"namespace"} if match["name"] == "finetune_jobs" else OWN_LABELS[section]
        found.add(Series(match["name"], match["type"], frozenset(labels | own)))
    assert len(found) == len(rows), "a series stands there twice"
    return found


def list_exported(registry: CollectorRegistry) -> set[Series]:
    """Every family, also those that have no sample yet; the text that Prometheus reads names no labels of those."""
    return {
        Series(f"{name}_total" if type_ == "counter" else name, type_, frozenset(labels))
        for collector in registry._collector_to_names
        for name, type_, labels in _list_families(collector)
    }


def _list_families(collector: Any) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    if hasattr(collector, "_labelnames"):
        yield collector._name, collector._type, collector._labelnames
        return
    for family in collector.collect():
        yield family.name, family.type, getattr(family, "_labelnames", ())
