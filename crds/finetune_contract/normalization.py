"""Plain data as the API server reads it, so that Python and `kubectl apply` judge the same document.

The API server drops a field whose value is null, and takes 3.0 for the whole number 3; what lies inside a free object
stays as it is. Tested against the real one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from finetune_contract.fields import find_field, find_model, is_free_object

_EXACT: Final = 2**53
"""Below this every whole float is that integer."""
_REMEMBERED: Final = 4096
"""Fields of which is remembered what they hold; there are fewer, but for what users invent."""


class _Field(NamedTuple):
    is_known: bool
    is_free: bool = False
    """Holds whatever another program understands."""
    model: type[BaseModel] | None = None


def normalize(data: Any, document: type[BaseModel]) -> Any:
    """Return the data of a document (or of a list of them) without nulls and with whole floats as integers."""
    if isinstance(data, list):
        return [normalize(entry, document) for entry in data]
    if not isinstance(data, dict):
        return _normalize_value(data)
    fields = {name: _read_field(document, name) for name in data}
    return {
        name: _normalize_field(value, fields[name])
        for name, value in data.items()
        if value is not None or not fields[name].is_known
    }


@lru_cache(_REMEMBERED)
def _read_field(document: type[BaseModel], name: str) -> _Field:
    field = find_field(document, name)
    return _Field(False) if field is None else _Field(True, is_free_object(field), find_model(field.annotation))


def _normalize_field(value: Any, field: _Field) -> Any:
    if not field.is_known or field.is_free:
        return value
    if field.model:
        return normalize(value, field.model)
    if isinstance(value, dict):
        return {key: entry for key, entry in value.items() if entry is not None}
    return _normalize_value(value)


def _normalize_value(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT else value
