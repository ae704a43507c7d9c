"""Every query of the chart's dashboards, as Grafana sends it: for tests that parse them and tests that run them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parents[2] / "charts" / "finetune-operator" / "dashboards"
_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True)
class Query:
    """One query of one panel."""

    dashboard: str
    """The dashboard's uid."""
    panel: str
    """The panel's title, or the annotation's name."""
    expression: str
    instant: bool
    """Asked once, at the end of the range; otherwise over the range."""
    annotation: bool = False
    """Marks moments, of which there may be none."""

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel}: {self.expression}"


def list_queries(replace: Callable[[str], str]) -> list[Query]:
    """All queries, their variables replaced: `replace("job")` is what stands in the place of $job.

    Asked for are namespace, job, queue, instance, metric, gpu_hour_price, __rate_interval, __range, __range_s.
    """
    return [query for dashboard in read_dashboards() for query in _read(dashboard, replace)]


def read_dashboards() -> list[dict[str, Any]]:
    """The dashboards that the chart brings."""
    return [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]


def list_panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """The panels of a dashboard that show something: rows are left out."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def replace_variables(expression: str, replace: Callable[[str], str]) -> str:
    """An expression without Grafana's variables."""
    return _VARIABLE.sub(lambda found: replace(found[1] or found[2]), expression)


def _read(dashboard: dict[str, Any], replace: Callable[[str], str]) -> Iterator[Query]:
    for panel in list_panels(dashboard):
        for target in panel["targets"]:
            expression = replace_variables(target["expr"], replace)
            yield Query(dashboard["uid"], panel["title"], expression, target["instant"])
    for mark in dashboard["annotations"]["list"]:
        expression = replace_variables(mark["expr"], replace)
        yield Query(dashboard["uid"], mark["name"], expression, instant=False, annotation=True)
