"""Plain data as the API server reads it, so that Python and `kubectl apply` judge the same document.

The API server drops a field whose value is null, and takes 3.0 for the whole number 3; what lies inside a free object
stays as it is. Tested against the real one.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from finetune_contract.fields import find_field, find_model, is_free_object

_EXACT: int = 2**53
"""Below this every whole float is that integer."""


def normalize(data: Any, document: type[BaseModel]) -> Any:
    """Return the data of a document (or of a list of them) without nulls and with whole floats as integers."""
    if isinstance(data, list):
        return [normalize(entry, document) for entry in data]
    if not isinstance(data, dict):
        return _normalize_value(data)
    fields = {name: find_field(document, name) for name in data}
    return {
        name: _normalize_field(value, fields[name])
        for name, value in data.items()
        if value is not None or fields[name] is None
    }


def _normalize_field(value: Any, field: FieldInfo | None) -> Any:
    if field is None or is_free_object(field):
        return value
    model = find_model(field.annotation)
    if model:
        return normalize(value, model)
    if isinstance(value, dict):
        return {key: entry for key, entry in value.items() if entry is not None}
    return _normalize_value(value)


def _normalize_value(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT else value
