"""`make bench`: what the product promises about speed and memory, as ratios and differences within one run.

    python -m tests.bench            all parts
    python -m tests.bench start      apply -> first optimizer step, against bare pods
    python -m tests.bench loop       our training loop, against a bare DeepSpeed loop
    python -m tests.bench memory     the operator at rest
    python -m tests.bench save       what a save costs training, against a blocking save
    python -m tests.bench recover    killed worker, killed pod -> next optimizer step

Prints a table, and JSON to .cluster/bench.json; exits 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from tests.bench import loop, memory, recover, save, start
from tests.bench.row import Row
from tests.ground.cache import REPOSITORY

PARTS: dict[str, Callable[[], list[Row]]] = {
    "start": lambda: [start.measure()],
    "loop": lambda: [loop.measure()],
    "memory": lambda: [memory.measure()],
    "save": lambda: [save.measure()],
    "recover": recover.measure,
}


def main() -> int:
    """Run the parts that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], default=[])
    names = parser.parse_args().parts or list(PARTS)
    rows = [row for name in names for row in PARTS[name]()]
    Console().print(_table(rows))
    target = REPOSITORY / ".cluster" / "bench.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps([row.to_data() for row in rows], indent=2))
    return 0 if all(row.reached for row in rows) else 1


def _table(rows: list[Row]) -> Table:
    table = Table("what", "measured", "goal", "reached", "how")
    for row in rows:
        measured, goal = f"{row.measured:.4g} {row.unit}", f"<= {row.goal:g} {row.unit}"
        table.add_row(row.what, measured, goal, "yes" if row.reached else "NO", row.how)
    return table


if __name__ == "__main__":
    sys.exit(main())
