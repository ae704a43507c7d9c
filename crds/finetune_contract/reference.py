"""docs/reference/finetunejob.md: every field of the CRD on one page, made from the CRD itself.

Pure: a CRD in, Markdown out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from finetune_contract.spec.task import SUPPORTED_TASKS, TASK_COLUMNS, TASK_OPTIONAL_COLUMNS

Node = dict[str, Any]

_INTRODUCTION: Final = """\
What is not written is derived; `finetune plan JOB.yaml` and `status.resolved` show what it became. \
`kubectl explain {short} --recursive` prints the same fields, `finetune validate JOB.yaml` checks a file without a \
cluster."""


def render_reference(crd: Node, notice: str) -> str:
    """The page as Markdown."""
    spec = crd["spec"]
    names, version = spec["names"], spec["versions"][0]
    root = version["schema"]["openAPIV3Schema"]
    parts = [
        f"<!-- {notice} -->",
        f"# {names['kind']}",
        f"`apiVersion: {spec['group']}/{version['name']}`, short name `{names['shortNames'][0]}`.",
        root["description"],
        _INTRODUCTION.format(short=names["shortNames"][0]),
        *(text for name in ("spec", "status") for text in _render_tree(name, root["properties"][name], level=2)),
        "## Columns of each task",
        _render_task_columns(),
        "## Changes after the start",
        _render_transitions(root),
        "## Columns of `kubectl get`",
        _table(
            ("Column", "Meaning"), [(_shown(column), column["description"]) for column in _printer_columns(version)]
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _render_tree(path: str, node: Node, level: int) -> Iterator[str]:
    """A section for an object, then one for each object below it."""
    yield f"{'#' * level} {path}"
    yield node["description"]
    required = node.get("required", [])
    rows = [
        (f"`{name}`{' (required)' if name in required else ''}", _type_of(child, f"{path}.{name}"), _meaning(child))
        for name, child in node["properties"].items()
    ]
    yield _table(("Field", "Type", "Meaning"), rows)
    rules = [rule["message"] for rule in node.get("x-kubernetes-validations", [])]
    if rules:
        yield "Rules:\n\n" + "\n".join(f"- {message}" for message in rules)
    for name, child in node["properties"].items():
        below = _object_below(child)
        if below:
            yield from _render_tree(f"{path}.{name}{'[]' if child['type'] == 'array' else ''}", below, level=3)


def _object_below(node: Node) -> Node | None:
    for candidate in (node, node.get("items", {}), node.get("additionalProperties", {})):
        if "properties" in candidate:
            return dict(candidate)
    return None


def _type_of(node: Node, path: str) -> str:
    if "enum" in node:
        return "one of " + ", ".join(f"`{value}`" for value in node["enum"])
    if node["type"] == "array":
        most = f", at most {node['maxItems']}" if "maxItems" in node else ""
        return f"list of {_type_of(node['items'], f'{path}[]')}{most}"
    if "properties" in node:
        return f"[object](#{path.lower().replace('.', '').replace('[]', '')})"
    if "additionalProperties" in node:
        return f"map of {_type_of(node['additionalProperties'], path)}"
    return str(node["type"]) + _bounds_of(node)


def _bounds_of(node: Node) -> str:
    low = f"{'>' if node.get('exclusiveMinimum') else '≥'} {node['minimum']:g}" if "minimum" in node else ""
    high = f"{'<' if node.get('exclusiveMaximum') else '≤'} {node['maximum']:,g}" if "maximum" in node else ""
    bounds = ", ".join(bound for bound in (low, high) if bound)
    return f", {bounds}" if bounds else ""


def _meaning(node: Node) -> str:
    return str(node.get("description", "")).replace("|", "\\|")


def _render_task_columns() -> str:
    rows = []
    for task, sets in TASK_COLUMNS.items():
        needed = " or ".join(", ".join(f"`{name}`" for name in columns) for columns in sets)
        optional = ", ".join(f"`{name}`" for name in TASK_OPTIONAL_COLUMNS.get(task, ()))
        rows.append((f"`{task}`", needed, optional, "yes" if task in SUPPORTED_TASKS else "not yet"))
    return _table(("Task", "Needed", "Optional", "Supported"), rows)


def _render_transitions(root: Node) -> str:
    rules = [rule for rule in root["x-kubernetes-validations"] if "oldSelf" in rule["rule"]]
    fields = ", ".join(f"`{rule['fieldPath'].removeprefix('.')}`" for rule in rules)
    return f"Once `status.phase` is no longer `Pending`, these fields are immutable: {fields}."


def _printer_columns(version: Node) -> list[Node]:
    return list(version["additionalPrinterColumns"])


def _shown(column: Node) -> str:
    return f"{column['name']}{' (`-o wide`)' if column['priority'] else ''}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
