"""Bounded strings, maps and lists: every text a user can write has a length, so that CEL's cost stays within budget."""

from typing import Annotated, Any

from pydantic import Field

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
        pattern=r"^(hf|s3|gs|az|pvc|file|https?)://[^\s]+$",
    ),
]
"""Where something is read from: hf://, s3://, gs://, az://, pvc://claim/path, file:// (local runs), http(s):// (data)."""

DestinationUri = Annotated[str, Field(min_length=6, max_length=1024, pattern=r"^(s3|gs|az|pvc|file)://[^\s]+$")]
"""Where results go: s3://, gs://, az://, pvc://claim/path, or file:// in local runs."""

StringMap = Annotated[
    dict[Annotated[str, Field(max_length=316)], Annotated[str, Field(max_length=512)]], Field(max_length=64)
]
"""Labels, annotations, selectors."""

FreeObject = dict[str, Any]
"""A Kubernetes or DeepSpeed object passed on as it is (kept with x-kubernetes-preserve-unknown-fields)."""
