"""`make bench-operator`: the operator among thousands of jobs, against what is promised of it.

    python -m tests.scale                          everything: an hour on two cores
    python -m tests.scale --jobs 500 1000          growth in other sizes
    python -m tests.scale --parts lag --lag-jobs 200
    python -m tests.scale --parts lag --words-per-second 17     all jobs save and end within a minute each

Parts: `rate` (apply -> all pods created), `growth` (memory, CPU and calls of jobs of four nodes, and a restart),
`lag` (agent says -> a watch shows). Prints two tables, and JSON to .cluster/bench-operator.json; exits 1 when a promise
is broken. All that takes part shares this machine: API server, etcd, scheduler, kwok, the stand-in agents.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Coroutine
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.ground.cache import REPOSITORY
from tests.scale.measure import Figures, Tell, measure_growth, measure_lag, measure_rate
from tests.scale.sight import find_percentile
from tests.scale.table import Promise, judge_growth, judge_lags, judge_rate, list_costs

PARTS = ("rate", "growth", "lag")
GROWTH_NODES, LAG_NODES = 4, 2
WORDS_PER_SECOND = 4.0
"""What 1,000 jobs say that save every five minutes and are done in an hour, and a little more."""


def main() -> int:
    """Measure, print, and say whether every promise is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[500, 1000, 3000], help="sizes of part growth")
    parser.add_argument("--rate-jobs", type=int, default=1000)
    parser.add_argument("--lag-jobs", type=int, default=1000)
    parser.add_argument("--words-per-second", type=float, default=WORDS_PER_SECOND, help="checkpoints, failures, ends")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    promises: list[Promise] = []
    runs: list[Figures] = []
    growth: list[Figures] = []
    failures: list[str] = []

    def take(what: str, measurement: Coroutine[Any, Any, Figures]) -> list[Figures]:
        """What was measured is kept, whatever becomes of the rest."""
        try:
            runs.append(asyncio.run(measurement))
        except AssertionError as error:
            failures.append(f"{what}: {error}")
            return []
        _write(promises, runs)
        return runs[-1:]

    with _show_progress() as progress:
        if "rate" in options.parts:
            for run in take("rate", measure_rate(options.rate_jobs, LAG_NODES, _make_tell(progress, "rate"))):
                promises += judge_rate(run)
        for jobs in options.jobs if "growth" in options.parts else ():
            what = f"{jobs} jobs"
            growth += take(what, measure_growth(jobs, GROWTH_NODES, _make_tell(progress, what)))
        promises += judge_growth(growth[-1]) if growth else []
        if "lag" in options.parts:
            tell = _make_tell(progress, "lag")
            for run in take("lag", measure_lag(options.lag_jobs, LAG_NODES, options.words_per_second, tell)):
                promises += judge_lags(run)
    console = Console()
    console.print(_tabulate_promises(promises))
    console.print(_tabulate_costs(growth or runs))
    for failure in failures:
        console.print(failure, style="red", markup=False)
    _write(promises, runs)
    return 0 if not failures and all(promise.kept for promise in promises) else 1


def _show_progress() -> Progress:
    columns = (TextColumn("{task.fields[part]}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    return Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True))


def _make_tell(progress: Progress, part: str) -> Tell:
    tasks: dict[str, TaskID] = {}

    def tell(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = progress.add_task(what, part=part)
        progress.update(tasks[what], completed=done, total=total)

    return tell


def _tabulate_promises(promises: list[Promise]) -> Table:
    table = Table("what", "measured", "goal", "kept", title=f"The operator on {os.cpu_count()} cores, shared by all")
    for each in promises:
        goal = f"{'>=' if each.at_least else '<='} {each.goal:g} {each.unit}"
        table.add_row(each.what, f"{each.measured:.4g} {each.unit}", goal, "yes" if each.kept else "NO")
    return table


def _tabulate_costs(runs: list[Figures]) -> Table:
    table = Table("what", *(f"{run.jobs:,} x {run.nodes}" for run in runs), title="Growth: a job's cost by size")
    costs = [list_costs(run) for run in runs]
    for row in dict.fromkeys(name for cost in costs for name in cost):
        table.add_row(row, *(f"{cost[row]:.4g}" if row in cost else "" for cost in costs))
    return table


def _write(promises: list[Promise], runs: list[Figures]) -> None:
    target = REPOSITORY / ".cluster" / "bench-operator.json"
    target.parent.mkdir(exist_ok=True)
    data = {"promises": [each.to_data() for each in promises], "runs": [_describe(run) for run in runs]}
    target.write_text(json.dumps(data, indent=2))


def _describe(run: Figures) -> dict[str, Any]:
    lags = {
        what: {
            "count": len(values),
            **{f"p{share}": find_percentile(values, share / 100) for share in (50, 90, 99, 100)},
        }
        for what, values in run.lags.items()
    }
    return {**asdict(run), "lags": lags, "costs": list_costs(run)}


if __name__ == "__main__":
    sys.exit(main())
