"""The two validators agree at every edge of every field.

The schema is walked, and each value just inside and outside of its bounds is shown to the real API server, as YAML that
it reads like kubectl, and to Python.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from finetune_contract.schema import make_crd
from finetune_contract.spec import FineTuneJob
from tests.contract.good_jobs import COMPLETE
from tests.contract.make import Data, make_data
from tests.contract.server import Server

Path = tuple[str | int, ...]


def test_both_validators_agree_at_the_edges_of_every_field(server: Server) -> None:
    disagreements = []
    verdicts = {True: 0, False: 0}
    for path, value in _list_edges():
        job = {**make_data(), "spec": _put(COMPLETE, path, value)}
        accepted = server.try_create(json.dumps(job)).accepted
        verdicts[accepted] += 1
        if accepted != _python_accepts(job):
            disagreements.append((path, str(value)[:40], "accepted" if accepted else "refused"))
    assert disagreements == [], "\n".join(map(str, disagreements))
    assert min(verdicts.values()) > 150


def _python_accepts(job: Data) -> bool:
    try:
        FineTuneJob.from_data(job)
    except ValidationError:
        return False
    return True


def _list_edges() -> Iterator[tuple[Path, Any]]:
    root = make_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    yield from _edges_of(root["properties"]["spec"], ())


def _edges_of(node: Data, path: Path) -> Iterator[tuple[Path, Any]]:
    """Edge values of one field, then of the fields below it."""
    values = {"integer": _whole_edges, "number": _number_edges, "string": _text_edges, "array": _list_edges_of}
    for value in (*values.get(node["type"], _no_edges)(node), *_WRONG[node["type"]]):
        yield path, value
    for name, child in node.get("properties", {}).items():
        yield from _edges_of(child, (*path, name))
    if "properties" in node.get("items", {}):
        yield from _edges_of(node["items"], (*path, 0))


_WRONG: dict[str, tuple[Any, ...]] = {
    "integer": ("text", True, {}),
    "number": ("text", True, {}),
    "string": (7, True, {}),
    "boolean": ("text", 7, {}),
    "array": ("text", {}, [], [None], None),
    "object": ("text", [], {}, {"unknown": 1}, {"unknown": None}, None),
}


def _whole_edges(node: Data) -> list[Any]:
    low, high = node.get("minimum", 0), node.get("maximum", 10)
    return [low, low - 1, high, high + 1, float(low), low + 0.5, None]


def _number_edges(node: Data) -> list[Any]:
    low, high = node.get("minimum", -1), node.get("maximum", 1)
    return [low, high, low - 1e-9, high + 1e-3, low + 1e-9, int(high)]


def _text_edges(node: Data) -> list[Any]:
    high = node.get("maxLength", 10)
    return [
        "",
        "a",
        "é" * high,
        "a" * high,
        "a" * (high + 1),
        "A b",
        "s3://a/b",
        "hf://a",
        "file://",
        *node.get("enum", ()),
    ]


def _list_edges_of(node: Data) -> list[Any]:
    high = node.get("maxItems", 1)
    return [["a"] * (high + 1), [{"name": "a"}] * 2, [{"name": f"n{number}"} for number in range(high)]]


def _no_edges(node: Data) -> list[Any]:
    return []


def _put(node: Any, path: Path, value: Any) -> Any:
    """Return plain data with the value at a path replaced."""
    if not path:
        return value
    head, rest = path[0], path[1:]
    if head == 0:
        entries = node or [{}]
        return [_put(entries[0], rest, value), *entries[1:]]
    return {**(node or {}), head: _put((node or {}).get(head), rest, value)}
