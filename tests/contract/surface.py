"""The public surface in one list: everything that a user, a dashboard or another program may rely on by name.

`python -m tests.contract.surface --update` writes surface.txt anew; a line that vanishes or changes breaks somebody,
a new one is a promise. Both belong into the review.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args

from finetune_contract import names
from finetune_contract.exits import CommandExit, FailureClass, WorkerExit
from finetune_contract.progress import AgentPhase
from finetune_contract.schema import make_crd

FILE = Path(__file__).with_name("surface.txt")


def list_surface() -> list[str]:
    """Every line of surface.txt, as the code says it now."""
    return [*_list_crd(), *_list_names(), *_list_exits()]


def _list_crd() -> Iterator[str]:
    spec = make_crd()["spec"]
    version = spec["versions"][0]
    known = spec["names"]
    yield f"resource {known['plural']}.{spec['group']}/{version['name']} {known['kind']}"
    yield from (f"short name {name}" for name in known["shortNames"])
    yield from (f"category {category}" for category in known["categories"])
    yield from (f"column {column['name']} {column['jsonPath']}" for column in version["additionalPrinterColumns"])
    for part in ("spec", "status"):
        yield from _list_fields(version["schema"]["openAPIV3Schema"]["properties"][part], part)


def _list_fields(node: dict[str, Any], path: str) -> Iterator[str]:
    free = " free" if node.get("x-kubernetes-preserve-unknown-fields") else ""
    yield f"field {path} {node['type']}{free}"
    if node.get("required"):
        yield f"required {path}: {', '.join(node['required'])}"
    if node.get("enum"):
        yield f"values {path}: {', '.join(map(str, node['enum']))}"
    for name, child in node.get("properties", {}).items():
        yield from _list_fields(child, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if key in node:
            yield from _list_fields(node[key], path + mark)


def _list_names() -> Iterator[str]:
    yield from (f"condition {name}" for name in names.CONDITIONS)
    yield from (f"reason {value}" for key, value in vars(names.Reason).items() if key.isupper())
    yield from (f"name {key} = {value}" for key, value in vars(names).items() if key.isupper() and _is_plain(value))


def _list_exits() -> Iterator[str]:
    yield from (f"phase of an agent {phase}" for phase in get_args(AgentPhase))
    for exits in (WorkerExit, CommandExit, FailureClass):
        yield from (f"{exits.__name__} {entry.name} = {_value(entry)}" for entry in exits)


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int)


def _value(entry: Enum) -> str:
    return str(entry.value)


def main() -> int:
    """Write surface.txt, or print how it differs and return 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.contract.surface", description=__doc__)
    parser.add_argument("--update", action="store_true", help="write the list as it is now")
    now = list_surface()
    if parser.parse_args().update:
        FILE.write_text("\n".join(now) + "\n", encoding="utf-8")
        return 0
    frozen = read_surface()
    print(
        "\n".join(
            [*(f"- {line}" for line in frozen if line not in now), *(f"+ {line}" for line in now if line not in frozen)]
        )
    )
    return int(frozen != now)


def read_surface() -> list[str]:
    """The checked-in list."""
    return FILE.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    sys.exit(main())
