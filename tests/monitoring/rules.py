"""The chart's rules as they lie in its files, and promtool that judges them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.chart.render import CHART
from tests.conftest import cannot
from tests.ground.binaries import MissingToolError

RULES = CHART / "rules"
ALERT_TESTS = Path(__file__).parent / "alerts"
MONITORING_PAGE = CHART.parents[1] / "docs" / "monitoring.md"
METRICS_PAGE = CHART.parents[1] / "docs" / "reference" / "metrics.md"

Rule = dict[str, Any]


def list_groups() -> list[dict[str, Any]]:
    """All groups of all files."""
    return [group for path in sorted(RULES.glob("*.yaml")) for group in yaml.safe_load(path.read_text())["groups"]]


def list_rules() -> Iterator[Rule]:
    """All rules of all groups."""
    for group in list_groups():
        yield from group["rules"]


def list_alerts() -> dict[str, Rule]:
    """Name -> alerting rule."""
    return {rule["alert"]: rule for rule in list_rules() if "alert" in rule}


def list_recorded() -> dict[str, str]:
    """Name of a recorded series -> its expression."""
    return {rule["record"]: rule["expr"] for rule in list_rules() if "record" in rule}


def list_documented_series() -> set[str]:
    """Every name that docs/reference/metrics.md promises, with the suffixes of its histograms."""
    names: set[str] = set()
    for line in METRICS_PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 3 and cells[1].startswith("`"):
            found = re.findall(r"`([a-z_]+)", cells[1])
            suffixes = ("_bucket", "_count", "_sum") if "histogram" in cells[2] else ("",)
            names |= {name + suffix for name in found for suffix in suffixes}
    return names


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    program = shutil.which("promtool")
    if program is None:
        cannot(MissingToolError("promtool judges the rules, and is not on PATH: install Debian's prometheus."))
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
