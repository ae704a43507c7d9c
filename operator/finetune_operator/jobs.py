"""The FineTuneJobs as last seen: by the watch, by our own writes, by the periodic list. Holds, decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune_operator.clients.cluster import Page
from finetune_operator.snapshot import Key


class JobCache:
    """Bodies by key; an older body never replaces a newer one."""

    def __init__(self) -> None:
        self._bodies: dict[Key, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self._bodies)

    def get(self, key: Key) -> dict[str, Any] | None:
        """The job's body."""
        return self._bodies.get(key)

    def keys(self) -> list[Key]:
        """All jobs."""
        return list(self._bodies)

    def put(self, body: Mapping[str, Any]) -> Key:
        """Take a body in, trimmed."""
        key = read_key(body)
        known = self._bodies.get(key)
        if known is None or _version(known) < _version(body):
            metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
            self._bodies[key] = {**body, "metadata": metadata}
        return key

    def remove(self, key: Key) -> None:
        """The job is gone."""
        self._bodies.pop(key, None)

    def find_ghosts(self, page: Page, namespace: str | None) -> list[Key]:
        """Jobs that are held here and stand in no complete list of the namespace (None: of the cluster).

        What is newer than the list was created while it was read, and is no ghost.
        """
        alive = {read_key(body) for body in page.items}
        old = [key for key, body in self._bodies.items() if _version(body) <= page.position]
        return [key for key in old if key not in alive and namespace in (None, key.namespace)]

    def list_phases(self) -> list[str]:
        """The phase of every job."""
        return [body.get("status", {}).get("phase", "Pending") for body in self._bodies.values()]


def read_key(body: Mapping[str, Any]) -> Key:
    """The key of a job's body."""
    return Key(body["metadata"]["namespace"], body["metadata"]["name"])


def _version(body: Mapping[str, Any]) -> int:
    return int(body["metadata"]["resourceVersion"])
