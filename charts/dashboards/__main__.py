"""Writes the dashboards into the chart, or checks that they are current. Decides nothing about what they show."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from charts.dashboards import control_plane, fleet, job, jobs

FOLDER: Final = Path(__file__).parents[1] / "finetune-operator" / "dashboards"


def render() -> dict[str, str]:
    """The files' names and what they hold."""
    made: list[dict[str, Any]] = [each.make() for each in (jobs, job, fleet, control_plane)]
    return {
        f"{each['uid']}.json": json.dumps(each, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for each in made
    }


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(prog="python -m charts.dashboards", description=__doc__)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--write", action="store_true", help="write the files")
    mode.add_argument("--check", action="store_true", help="fail if a file is not what --write would write")
    arguments = parser.parse_args()
    files = render()
    if arguments.write:
        FOLDER.mkdir(exist_ok=True)
        for name, text in files.items():
            (FOLDER / name).write_text(text)
    there = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    stale = sorted(name for name in there.keys() | files.keys() if there.get(name) != files.get(name))
    if stale:
        print(f"not current: {', '.join(stale)}; run `python -m charts.dashboards --write`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
