"""What may still change after a job has started, as a transition rule for the API server.

It stands at the root of the schema, the only place that sees spec and status at once. The API server evaluates it at
each of the many writes of the status too, and its CEL library builds a map of all properties of an object whenever it
looks at one of them: the rule looks at as little as it can before it knows that nothing is forbidden.
"""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel

from finetune_contract.fields import document_at, list_fields
from finetune_contract.spec.job import MUTABLE_FIELDS

_NOT_STARTED: Final = "!has(oldSelf.status) || !has(oldSelf.status.phase) || oldSelf.status.phase == 'Pending'"
_REMEDY: Final = (
    "immutable once the job has started: delete the job and create it again, or apply it under another name"
)
_FIGURES: Final = "status.progress.updatedTime"


def make_transition_rule(document: type[BaseModel]) -> dict[str, str]:
    """One rule for all immutable fields of spec; its message names those that were changed."""
    comparisons = {path: _make_comparison(path) for path in _list_immutable(document)}
    # A list to filter and join would be estimated too costly by the API server.
    changed = " + ".join(f"({same} ? '' : 'spec.{path}, ')" for path, same in comparisons.items())
    unchanged = " && ".join(comparisons.values())
    return {
        "rule": f"{_make_figures_test()} || self.spec == oldSelf.spec || {_NOT_STARTED} || ({unchanged})",
        "messageExpression": f"{changed} + '{_REMEDY}'",
        "message": _REMEDY,
        "fieldPath": ".spec",
        "reason": "FieldValueForbidden",
    }


def _list_immutable(document: type[BaseModel]) -> list[str]:
    """Fields of spec; where a part holds a mutable field, the fields of that part."""
    paths = []
    for name in list_fields(document):
        mutable = {path.partition(".")[2] for path in MUTABLE_FIELDS if path.split(".")[0] == name}
        if not mutable:
            paths.append(name)
        elif "" not in mutable and (part := document_at(document, (name,))):
            paths += [f"{name}.{child}" for child in list_fields(part) if child not in mutable]
    return paths


def _make_figures_test() -> str:
    """The write tells other figures, and so is one of the status: the API server lets none change spec and status."""
    present = f"{_presence('self', _FIGURES)} && {_presence('oldSelf', _FIGURES)}"
    return f"({present} && self.{_FIGURES} != oldSelf.{_FIGURES})"


def _make_comparison(path: str) -> str:
    new, old = (_presence(f"{root}.spec", path) for root in ("self", "oldSelf"))
    return f"({new} ? {old} && self.spec.{path} == oldSelf.spec.{path} : !({old}))"


def _presence(root: str, path: str) -> str:
    names = path.split(".")
    return " && ".join(f"has({root}.{'.'.join(names[: count + 1])})" for count in range(len(names)))
