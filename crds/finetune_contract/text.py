"""Bounded strings, maps and lists: every text a user can write has a length, so that CEL's cost stays within budget."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

Identifier = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
"""An object's name in Kubernetes (RFC 1123, at most 63 characters here)."""

ShortText = Annotated[str, Field(min_length=1, max_length=128)]
"""A name, a pattern, a metric: one short word or line."""

LongText = Annotated[str, Field(max_length=4096)]
"""A message or a value that people read."""

ColumnName = Annotated[str, Field(min_length=1, max_length=128)]
"""The name of a column in the user's file."""

Quantity = Annotated[
    str, Field(min_length=1, max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$")
]
"""A Kubernetes resource quantity written as a string, e.g. "500m", "2", "16Gi"."""

SourceUri = Annotated[
    str,
    Field(
        min_length=6,
        max_length=1024,
        pattern=r"^((hf|s3|gs|az|pvc|https?)://[^\s/][^\s]*|file://[^\s]+)$",
    ),
]
"""Where something is read from: hf://, s3://, gs://, az://, pvc://claim/path, file:// or http(s):// (data)."""

DestinationUri = Annotated[
    str, Field(min_length=6, max_length=1024, pattern=r"^((s3|gs|az|pvc)://[^\s/][^\s]*|file://[^\s]+)$")
]
"""Where results go: s3://, gs://, az://, pvc://claim/path, or file:// in local runs."""

StringMap = Annotated[
    dict[Annotated[str, Field(max_length=316)], Annotated[str, Field(max_length=512)]], Field(max_length=64)
]
"""Labels, annotations, selectors."""

FreeObject = dict[str, Any]
"""A Kubernetes or DeepSpeed object passed on as it is (kept with x-kubernetes-preserve-unknown-fields)."""

REPEATED_KEY = "repeated_key"
"""Type of the pydantic error for two entries of a keyed list with the same key."""


@dataclass(frozen=True)
class KeyedBy:
    """A list whose entries differ in `attribute`: a list map for the API server, the same rule for Python.

    Server-side apply then merges the entries by that key, as it does for a pod's containers.
    """

    attribute: str
    alias: str = ""

    @property
    def key(self) -> str:
        """The attribute's name as users see it."""
        return self.alias or self.attribute

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Check the entries after each of them is valid."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Annotate the list as Kubernetes does."""
        return {**handler(schema), "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.key]}

    def _check(self, entries: Sequence[object]) -> Sequence[object]:
        seen: set[object] = set()
        for entry in entries:
            value = getattr(entry, self.attribute)
            if value in seen:
                context = {"key": self.key, "value": value}
                raise PydanticCustomError(REPEATED_KEY, "two entries have the {key} {value}", context)
            seen.add(value)
        return entries
