"""The few shapes that our queries have. Strings in, strings out; knows neither Grafana nor panels."""

from __future__ import annotations

from typing import Final

WINDOW: Final = "$__rate_interval"
WHOLE_RANGE: Final = "$__range"
JOB: Final = 'namespace="$namespace", job="$job"'
FIRST_NODE: Final = f'{JOB}, node="0"'
"""The figures of a whole job are rank 0's; its agent is the one of node 0."""


def pick(series: str, where: str = "", window: str = "") -> str:
    """A selector: `series{where}[window]`."""
    return series + (f"{{{where}}}" if where else "") + (f"[{window}]" if window else "")


def rate(series: str, where: str = "") -> str:
    """A counter's growth a second."""
    return f"rate({pick(series, where, WINDOW)})"


def increase(series: str, where: str = "") -> str:
    """A counter's growth over all that the dashboard shows."""
    return f"increase({pick(series, where, WHOLE_RANGE)})"


def each_job(series: str, where: str = "", *labels: str) -> str:
    """One figure a job from the operator's series: they change pods with the leader, so pods are aggregated away."""
    return f"max by ({', '.join(('namespace', 'job', *labels))}) ({pick(series, where)})"


def total(expression: str, *labels: str) -> str:
    """The sum, by labels."""
    return f"sum by ({', '.join(labels)}) ({expression})" if labels else f"sum({expression})"


def share(part: str, whole: str) -> str:
    """A ratio that is absent, instead of infinite or not a number, where there is nothing to divide by."""
    return f"{part} / ({whole} > 0)"


def quantile(level: float, histogram: str, where: str = "") -> str:
    """A quantile of a histogram, over all pods."""
    buckets = total(rate(f"{histogram}_bucket", where), "le")
    return f"histogram_quantile({level}, {buckets})"


def or_zero(expression: str) -> str:
    """Nothing has happened means 0: only where the absence of a series says that it never happened."""
    return f"({expression}) or on () vector(0)"


def of_job(series: str, where: str = JOB) -> str:
    """One figure for the one job of a dashboard, whichever pod tells it now."""
    return f"max({pick(series, where)})"


def by_rank(series: str) -> str:
    """One figure for each rank of that job."""
    return f"max by (rank) ({pick(series, JOB)})"
