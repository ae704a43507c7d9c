"""The FineTuneJobs as last seen: by the watch, by our own writes, by the periodic list. Holds, decides nothing.

Thousands of them are held, one at a time is looked at: a body is kept as compressed JSON, a tenth of its size as dicts.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Generic, NamedTuple, TypeVar

from pydantic_core import from_json, to_json

from finetune_operator.clients.cluster import Page
from finetune_operator.snapshot import Key

D = TypeVar("D")
COMPRESSION: Final = 1
"""Fastest: the next levels save a twentieth of the bytes for twice the time."""


class _Held(NamedTuple, Generic[D]):
    version: int
    packed: bytes
    digest: D


class JobCache(Generic[D]):
    """Bodies by key; an older body never replaces a newer one."""

    def __init__(self, digest: Callable[[Mapping[str, Any]], D]) -> None:
        """`digest` makes what all jobs are asked for at once, of each body that is taken in; it must not raise."""
        self._digest = digest
        self._jobs: dict[Key, _Held[D]] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def get(self, key: Key) -> dict[str, Any] | None:
        """The job's body."""
        held = self._jobs.get(key)
        return _unpack(held.packed) if held is not None else None

    def keys(self) -> list[Key]:
        """All jobs."""
        return list(self._jobs)

    def put(self, body: Mapping[str, Any]) -> Key:
        """Take a body in, trimmed."""
        key, version = read_key(body), _version(body)
        known = self._jobs.get(key)
        if known is None or known.version < version:
            self._jobs[key] = _Held(version, _pack(body), self._digest(body))
        return key

    def remove(self, key: Key) -> None:
        """The job is gone."""
        self._jobs.pop(key, None)

    def find_ghosts(self, alive: Collection[Key], position: int, namespace: str | None) -> list[Key]:
        """Jobs that are held here and stand in no complete list of the namespace (None: of the cluster).

        What is newer than the list's position was created while it was read, and is no ghost.
        """
        old = [key for key, held in self._jobs.items() if held.version <= position]
        return [key for key in old if key not in alive and namespace in (None, key.namespace)]

    def find_outdated(self, page: Page) -> list[Key]:
        """Jobs of a list (of metadata, say) that are held here in an older version, or not at all."""
        seen = ((read_key(body), _version(body)) for body in page.items)
        return [key for key, version in seen if key not in self._jobs or self._jobs[key].version < version]

    def list_digests(self) -> list[D]:
        """The digest of every job; other threads may ask too."""
        return [held.digest for held in list(self._jobs.values())]


def read_key(body: Mapping[str, Any]) -> Key:
    """The key of a job's body."""
    return Key(body["metadata"]["namespace"], body["metadata"]["name"])


def _pack(body: Mapping[str, Any]) -> bytes:
    metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
    return zlib.compress(to_json({**body, "metadata": metadata}), COMPRESSION)


def _unpack(packed: bytes) -> dict[str, Any]:
    body: dict[str, Any] = from_json(zlib.decompress(packed))
    return body


def _version(body: Mapping[str, Any]) -> int:
    return int(body["metadata"]["resourceVersion"])
