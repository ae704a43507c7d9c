"""What may still change after a job has started, as transition rules for the API server.

They stand at the root of the schema, the only place that sees spec and status at once.
"""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel

from finetune_contract.fields import document_at, list_fields
from finetune_contract.spec.job import MUTABLE_FIELDS

_NOT_STARTED: Final = "!has(oldSelf.status) || !has(oldSelf.status.phase) || oldSelf.status.phase == 'Pending'"


def list_transition_rules(document: type[BaseModel]) -> list[dict[str, str]]:
    """One rule for each immutable field of spec, blaming that field."""
    return [_make_rule(path) for path in _list_immutable(document)]


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


def _make_rule(path: str) -> dict[str, str]:
    """Unchanged comes first: every write of the status is judged by all rules, and each look at a field costs."""
    return {
        "rule": f"{_make_comparison(path)} || {_NOT_STARTED}",
        "message": f"spec.{path} is immutable once the job has started: delete the job and create it again, or apply it"
        " under another name",
        "fieldPath": f".spec.{path}",
        "reason": "FieldValueForbidden",
    }


def _make_comparison(path: str) -> str:
    new, old = (_presence(root, path) for root in ("self", "oldSelf"))
    return f"({new} ? {old} && self.spec.{path} == oldSelf.spec.{path} : !({old}))"


def _presence(root: str, path: str) -> str:
    names = path.split(".")
    return " && ".join(f"has({root}.spec.{'.'.join(names[: count + 1])})" for count in range(len(names)))
