"""The chart's values as their places tell them: values.yaml with its comments, the schema, the templates, the README.

`python -m tests.chart.values --write` writes that table from values.yaml.

A value is a *leaf* where the schema names no keys below it, or where values.yaml gives an empty map: below that the
keys are the user's, or Kubernetes' own.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from tests.chart.render import CHART

VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
UMBRELLA = {"enabled"}
"""Accepted because umbrella charts set it on every chart of theirs; read nowhere."""

README = CHART / "README.md"
BEGIN, END = "<!-- values: written by python -m tests.chart.values --write -->", "<!-- end of values -->"

_KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z][A-Za-z0-9_]*):(?P<rest>.*)$")
_USE = re.compile(r"\.Values((?:\.[A-Za-z][A-Za-z0-9]*)+)")


@dataclass(frozen=True)
class Value:
    """One key of values.yaml."""

    path: str
    default: Any
    comment: str
    """What stands above it."""


def documented_values() -> list[Value]:
    """Every value of values.yaml in its order, maps included."""
    known, found, comment = known_values(), [], []
    parents = [(-1, "")]
    for line in (CHART / "values.yaml").read_text().splitlines():
        match = _KEY.match(line)
        if match is None:
            comment = [*comment, line.strip().removeprefix("#").strip()] if line.strip().startswith("#") else []
            continue
        indent = len(match["indent"])
        while parents[-1][0] >= indent:
            parents.pop()
        path = f"{parents[-1][1]}.{match['key']}".lstrip(".")
        if path in known:
            found.append(Value(path, known[path], " ".join(comment)))
        parents.append((indent, path))
        comment = []
    return found


def known_values() -> dict[str, Any]:
    """Path -> default of every value, maps included."""
    return dict(_walk_values(VALUES, SCHEMA, ""))


def leaves() -> list[str]:
    """The values that are set one by one."""
    paths = known_values()
    return [path for path in paths if not any(other.startswith(f"{path}.") for other in paths)]


def schema_paths() -> list[str]:
    """Every key that the schema names, down to the leaves."""
    return list(_walk_schema(SCHEMA, VALUES, ""))


def used_values() -> set[str]:
    """Every `.Values.a.b` that a template writes out."""
    files = [path for path in (CHART / "templates").rglob("*") if path.suffix in {".yaml", ".tpl", ".txt"}]
    return {use.strip(".") for path in files for use in _USE.findall(path.read_text())}


def open_levels(schema: dict[str, Any] = SCHEMA, path: str = "") -> Iterator[str]:
    """The levels at which the schema accepts any key with any value."""
    kinds = schema.get("type", [])
    if "object" in ([kinds] if isinstance(kinds, str) else kinds) and schema.get("additionalProperties", True) is True:
        yield path
    for key, child in schema.get("properties", {}).items():
        yield from open_levels(child, f"{path}.{key}".lstrip("."))
    if "items" in schema:
        yield from open_levels(schema["items"], f"{path}[]")


def _walk_values(values: dict[str, Any], schema: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        here = f"{path}{key}"
        yield here, value
        child = schema.get("properties", {}).get(key, {})
        if isinstance(value, dict) and child.get("properties"):
            yield from _walk_values(value, child, f"{here}.")


def _walk_schema(schema: dict[str, Any], values: dict[str, Any], path: str) -> Iterator[str]:
    for key, child in schema.get("properties", {}).items():
        yield f"{path}{key}"
        below = values.get(key)
        if isinstance(below, dict) and below and child.get("properties"):
            yield from _walk_schema(child, below, f"{path}{key}.")


def render_table() -> str:
    """The README's table: one row a leaf."""
    single = set(leaves())
    rows = [
        f"| `{value.path}` | `{json.dumps(value.default)}` | {value.comment.replace('|', chr(92) + '|')} |"
        for value in documented_values()
        if value.path in single
    ]
    return "\n".join(["| Value | Default | Meaning |", "|---|---|---|", *rows])


def read_table() -> str:
    """The table that stands in the README."""
    return README.read_text(encoding="utf-8").partition(f"{BEGIN}\n")[2].partition(f"\n{END}")[0]


def write_table() -> None:
    """Put the table into the README."""
    head, _, rest = README.read_text(encoding="utf-8").partition(f"{BEGIN}\n")
    _, _, tail = rest.partition(f"{END}")
    README.write_text(f"{head}{BEGIN}\n{render_table()}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(write_table() if sys.argv[1:] == ["--write"] else "usage: python -m tests.chart.values --write")
