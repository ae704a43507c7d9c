"""Pydantic's JSON schema -> the structural OpenAPI v3 schema that a CustomResourceDefinition takes.

Pure, and general: knows JSON schema and Kubernetes' rules for it, not our documents. A keyword that it does not know is
an error, so that nothing of a model is lost in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel

Node = dict[str, Any]

_KEPT: Final = frozenset({
    "type", "format", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems",
    "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
})  # fmt: skip
_DROPPED: Final = frozenset({"title", "$defs", "readOnly"})
_MAP_KEY_LIMIT: Final = "a key is longer than {limit} characters; shorten it"


class SchemaError(ValueError):
    """A model says something that a structural schema cannot; the message names the keyword and the field."""


@dataclass(frozen=True)
class _Style:
    """How a tree is translated: users' fields strictly, our own writes leniently."""

    definitions: Mapping[str, Node] = field(default_factory=dict)
    strict: bool = True
    """Rules, required fields and defaults in the descriptions; without: types and bounds only."""


def make_structural_schema(document: type[BaseModel], *, strict: bool) -> Node:
    """The structural schema of a model.

    strict: with rules, required fields and the defaults in the descriptions, for what a user writes. Otherwise
    required is only what a list map needs, for what the operator writes (computed fields included).
    """
    schema = document.model_json_schema(mode="validation" if strict else "serialization")
    return _convert(schema, _Style(schema.get("$defs", {}), strict), document.__name__)


def _convert(node: Node, style: _Style, path: str) -> Node:
    """Translate one node; every node is visited once, after references and nullability are resolved."""
    node = _resolve(node, style, path)
    result = {key: node[key] for key in _KEPT if key in node}
    result["description"] = _describe(node, style)
    result |= _bound_number(node)
    rules = list(node.get("x-kubernetes-validations", [])) + _bound_keys(node)
    handled = {"description", "default", "exclusiveMinimum", "exclusiveMaximum", "x-kubernetes-validations"}
    if node.get("type") == "object":
        result |= _convert_object(node, style, path)
        handled |= {"properties", "required", "additionalProperties", "propertyNames", "maxProperties", "minProperties"}
    if node.get("type") == "array":
        result["items"] = _convert_items(node, style, path)
        result.setdefault("x-kubernetes-list-type", "atomic")
        handled |= {"items"}
    if rules and style.strict:
        result["x-kubernetes-validations"] = rules
    unknown = node.keys() - _KEPT - _DROPPED - handled
    if unknown or "type" not in node:
        raise SchemaError(f"{path}: {', '.join(sorted(unknown)) or 'no type'} has no form in a structural schema")
    return {key: result[key] for key in sorted(result, key=_rank) if result[key] != ""}


def _resolve(node: Node, style: _Style, path: str) -> Node:
    """Inline references, drop null from unions, write const as enum; what stands beside a reference wins."""
    node = dict(node)
    while True:
        if "$ref" in node:
            target = style.definitions[node.pop("$ref").removeprefix("#/$defs/")]
            node = {**target, **node}
        elif "anyOf" in node:
            choices = [choice for choice in node.pop("anyOf") if choice.get("type") != "null"]
            if len(choices) != 1:
                raise SchemaError(f"{path}: a union of several types has no form in a structural schema")
            node = {**choices[0], **node}
        elif "const" in node:
            node["enum"] = [node.pop("const")]
        else:
            return node


def _convert_object(node: Node, style: _Style, path: str) -> Node:
    if "properties" not in node:
        return _convert_map(node, style, path)
    properties = {name: _convert(child, style, f"{path}.{name}") for name, child in node["properties"].items()}
    required = [name for name in node.get("required", []) if not _is_nullable(node["properties"][name])]
    if style.strict:
        return {"properties": properties} | ({"required": required} if required else {})
    # One writer: the API server need not remember (and compare, at each write) who wrote which field.
    return {"properties": properties} | ({"x-kubernetes-map-type": "atomic"} if path.count(".") else {})


def _convert_items(node: Node, style: _Style, path: str) -> Node:
    """The entries of a list; those of a list map need their keys, whoever writes them."""
    items = _convert(node["items"], style, f"{path}[]")
    keys = node.get("x-kubernetes-list-map-keys", [])
    return items if style.strict or not keys else items | {"required": keys}


def _convert_map(node: Node, style: _Style, path: str) -> Node:
    values = node.get("additionalProperties", True)
    if values is True:
        return {"x-kubernetes-preserve-unknown-fields": True}
    bounds = {key: node[key] for key in ("maxProperties", "minProperties") if key in node}
    return {"additionalProperties": _convert(values, style, f"{path}{{}}")} | bounds


def _is_nullable(node: Node) -> bool:
    return any(choice.get("type") == "null" for choice in node.get("anyOf", []))


def _bound_number(node: Node) -> Node:
    """OpenAPI v3.0 writes an exclusive bound as a bound and a flag."""
    result: Node = {}
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in node:
            result |= {bound: node[exclusive], exclusive: True}
    return result


def _bound_keys(node: Node) -> list[Node]:
    """A structural schema cannot bound the keys of a map; CEL can."""
    limit = node.get("propertyNames", {}).get("maxLength")
    if limit is None:
        return []
    return [{"rule": f"self.all(key, size(key) <= {limit})", "message": _MAP_KEY_LIMIT.format(limit=limit)}]


def _describe(node: Node, style: _Style) -> str:
    text = " ".join(str(node.get("description", "")).split())
    default = node.get("default")
    if not style.strict or default is None or isinstance(default, dict | list) or default == "":
        return text
    shown = (
        str(default).lower() if isinstance(default, bool) else f"{default:g}" if isinstance(default, float) else default
    )
    return f"{text} Default: {shown}.".strip()


def _rank(key: str) -> tuple[int, str]:
    order = ("description", "type", "format", "enum", "required", "properties", "additionalProperties", "items")
    return (order.index(key) if key in order else len(order), key)
