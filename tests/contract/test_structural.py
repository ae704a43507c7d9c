"""The translation of models into structural schemas, construct by construct."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from finetune_contract.document import Document, Rule
from finetune_contract.structural import SchemaError, make_structural_schema
from finetune_contract.text import FreeObject, KeyedBy


class Leaf(Document):
    """What a leaf is."""

    name: Annotated[str, Field(max_length=3)]
    """Its name."""

    rules = (Rule(cel="self.name != 'a'", message="no", holds=lambda leaf: leaf.name != "a", field="name"),)


class Tree(Document):
    """What a tree is."""

    kind: Literal["oak"]
    """Always oak."""
    height: Annotated[float, Field(gt=0, le=9)] | None = None
    """Its height."""
    rings: Annotated[int, Field(ge=1, lt=5)] = 2
    """Its
    rings."""
    leaf: Leaf | None = None
    """The nicest leaf."""
    leaves: Annotated[tuple[Leaf, ...], Field(max_length=4), KeyedBy("name")] = ()
    """Its leaves."""
    notes: Annotated[dict[Annotated[str, Field(max_length=7)], str], Field(max_length=2)] = {}
    """Notes."""
    free: FreeObject | None = None
    """Whatever."""
    evergreen: bool = False


_LEAF = {
    "description": "What a leaf is.",
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"description": "Its name.", "type": "string", "maxLength": 3}},
    "x-kubernetes-validations": [{"rule": "self.name != 'a'", "message": "no", "fieldPath": ".name"}],
}


def test_what_a_user_writes_is_described_bounded_and_ruled() -> None:
    assert make_structural_schema(Tree, strict=True) == {
        "description": "What a tree is.",
        "type": "object",
        "required": ["kind"],
        "properties": {
            "kind": {"description": "Always oak.", "type": "string", "enum": ["oak"]},
            "height": {
                "description": "Its height.", "type": "number", "minimum": 0, "exclusiveMinimum": True, "maximum": 9,
            },
            "rings": {
                "description": "Its rings. Default: 2.", "type": "integer", "minimum": 1, "maximum": 5,
                "exclusiveMaximum": True,
            },
            "leaf": {**_LEAF, "description": "The nicest leaf."},
            "leaves": {
                "description": "Its leaves.", "type": "array", "items": _LEAF, "maxItems": 4,
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            },
            "notes": {
                "description": "Notes.", "type": "object", "additionalProperties": {"type": "string"},
                "maxProperties": 2,
                "x-kubernetes-validations": [
                    {
                        "rule": "self.all(key, size(key) <= 7)",
                        "message": "a key is longer than 7 characters; shorten it",
                    }
                ],
            },
            "free": {
                "description": "Whatever.", "type": "object", "x-kubernetes-preserve-unknown-fields": True,
            },
            "evergreen": {"description": "Default: false.", "type": "boolean"},
        },
    }  # fmt: skip


def test_what_the_operator_writes_has_neither_rules_nor_required_fields_beside_list_keys() -> None:
    schema = make_structural_schema(Tree, strict=False)
    assert "required" not in schema
    assert schema["properties"]["rings"]["description"] == "Its rings."
    bare = {key: value for key, value in _LEAF.items() if key != "x-kubernetes-validations"}
    assert schema["properties"]["leaves"]["items"] == {**bare, "x-kubernetes-map-type": "atomic"}, "one writer"


class Union(Document):
    """A union of types."""

    value: int | str


class Anything(Document):
    """A value of any type."""

    value: Any


class Unbounded(Document):
    """A keyword that has no counterpart."""

    value: Annotated[int, Field(multiple_of=3)]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (Union, "Union.value: a union"),
        (Anything, "Anything.value: no type"),
        (Unbounded, "Unbounded.value: multipleOf"),
    ],
)
def test_what_has_no_counterpart_is_an_error(document: type[Document], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        make_structural_schema(document, strict=True)
