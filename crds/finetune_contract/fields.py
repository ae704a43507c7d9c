"""The tree of fields of a document: paths as users write them, what stands at a path, where a name is at home.

Reads pydantic's models; must not know any concrete document.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

Location = tuple[str | int, ...]
"""A path as pydantic gives it: names as users write them, and indexes of lists."""


def format_path(location: Location) -> str:
    """Write a location as spec.evaluation.gate[0].min; keys that hold a dot stand in brackets."""
    text = ""
    for part in location:
        if isinstance(part, int) or "." in part or "/" in part:
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def list_fields(document: type[BaseModel]) -> list[str]:
    """Names of a document's fields as users write them."""
    return [field.alias or name for name, field in document.model_fields.items()]


def describe_field(document: type[BaseModel], location: Location) -> str:
    """The field's description without its full stop; empty where it has none."""
    owner = document_at(document, location[:-1])
    field = find_field(owner, str(location[-1])) if owner and location else None
    return ((field.description if field else None) or "").rstrip(".")


def document_at(document: type[BaseModel], location: Location) -> type[BaseModel] | None:
    """The model that stands at a location; None where a map or a plain value stands."""
    here: type[BaseModel] | None = document
    for part in location:
        if isinstance(part, int):
            continue
        field = find_field(here, part) if here else None
        here = find_model(field.annotation) if field else None
    return here


def find_homes(document: type[BaseModel], name: str) -> list[str]:
    """Paths of the parts of the document that have a field of that name, the shallowest first."""
    homes = [path for path, model in walk(document) if path and name in list_fields(model)]
    return sorted(homes, key=lambda path: path.count("."))


def walk(document: type[BaseModel], path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Every model of the tree with its path."""
    yield path, document
    for name, field in document.model_fields.items():
        model = find_model(field.annotation)
        if model:
            yield from walk(model, f"{path}.{field.alias or name}".lstrip("."))


def find_field(document: type[BaseModel] | None, name: str) -> FieldInfo | None:
    """The field of a document that users write under that name."""
    fields = document.model_fields.items() if document else ()
    return next((field for key, field in fields if (field.alias or key) == name), None)


def find_model(annotation: Any) -> type[BaseModel] | None:
    """The model inside X, X | None, Annotated[X, ...] or tuple[X, ...]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for model in map(find_model, get_args(annotation)) if model), None)


def is_free_object(field: FieldInfo) -> bool:
    """Whether the field holds whatever another program understands, alone or in a list."""
    return _holds_any(field.annotation)


def _holds_any(annotation: Any) -> bool:
    return annotation is Any or any(map(_holds_any, get_args(annotation)))
