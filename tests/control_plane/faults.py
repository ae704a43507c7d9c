"""An API server in memory that fails on command. Only for what a real one cannot be asked to do."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable
from typing import Any

from finetune_operator.clients.cluster import PODS, Page, Resource
from finetune_operator.errors import ConflictError, NotFoundError
from finetune_operator.snapshot import Key

Manifest = dict[str, Any]


class FakeCluster:
    """Objects by resource and key; `failures` are raised, one a call, before anything is done."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, Key], Manifest] = {}
        self.version = 1
        self.failures: list[Exception] = []
        self.calls: list[str] = []
        self.forbidden: set[tuple[str, str]] = set()
        """Verbs and resources."""
        self._streams: dict[str, asyncio.Queue[Manifest | Exception | None]] = {}
        self._opened = asyncio.Event()

    def store(self, resource: Resource, manifest: Manifest, *, silently: bool = False) -> Manifest:
        """Put an object in, as somebody else would."""
        self.version += 1
        manifest = copy.deepcopy(manifest)
        manifest["metadata"].setdefault("creationTimestamp", "2027-01-15T08:00:00Z")
        manifest["metadata"]["resourceVersion"] = str(self.version)
        key = _key(manifest)
        known = (resource.plural, key) in self.objects
        self.objects[resource.plural, key] = manifest
        if not silently:
            self.send({"type": "MODIFIED" if known else "ADDED", "object": manifest}, resource)
        return copy.deepcopy(manifest)

    def remove(self, resource: Resource, key: Key, *, silently: bool = False) -> None:
        """Take an object out; silently: the watch misses it."""
        self.version += 1
        manifest = self.objects.pop((resource.plural, key))
        manifest["metadata"]["resourceVersion"] = str(self.version)
        if not silently:
            self.send({"type": "DELETED", "object": manifest}, resource)

    def send(self, event: Manifest | Exception | None, resource: Resource = PODS) -> None:
        """Say something on the open watch of a resource; an exception breaks it, None ends it."""
        if resource.plural in self._streams:
            self._streams[resource.plural].put_nowait(copy.deepcopy(event) if isinstance(event, dict) else event)

    async def opened(self) -> None:
        """Wait for the next watch to be open."""
        self._opened.clear()
        await asyncio.wait_for(self._opened.wait(), 10)

    def limit_writes(self, seconds_left: Callable[[], float]) -> None:
        """Nothing takes long here."""

    async def list_page(self, resource: Resource, namespace: str | None, *, token: str = "") -> Page:
        self._call(f"list {resource.plural}")
        keys = sorted(key for plural, key in self.objects if plural == resource.plural)
        begin = int(token or 0)
        items = [copy.deepcopy(self.objects[resource.plural, key]) for key in keys[begin : begin + 2]]
        return Page(items, self.version, str(begin + 2) if len(keys) > begin + 2 else "")

    async def is_allowed(self, verb: str, resource: Resource, namespace: str | None, subresource: str = "") -> bool:
        return (verb, resource.plural) not in self.forbidden

    async def list_metadata(self, resource: Resource, namespace: str | None) -> Page:
        self._call(f"list metadata {resource.plural}")
        found = [value["metadata"] for (plural, _), value in self.objects.items() if plural == resource.plural]
        return Page([{"metadata": copy.deepcopy(metadata)} for metadata in found], self.version, "")

    async def list_pages(self, resource: Resource, namespace: str | None, *, selector: str = "") -> AsyncIterator[Page]:
        page = await self.list_page(resource, namespace)
        yield page
        while page.token:
            page = await self.list_page(resource, namespace, token=page.token)
            yield page

    @property
    def server(self) -> str:
        return "https://fake"

    async def watch(
        self, resource: Resource, namespace: str | None, *, selector: str, position: int, seconds: int
    ) -> AsyncIterator[Manifest]:
        self._call(f"watch {resource.plural} {position}")
        stream: asyncio.Queue[Manifest | Exception | None] = asyncio.Queue()
        self._streams[resource.plural] = stream
        self._opened.set()
        while (event := await stream.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event

    async def get(self, resource: Resource, key: Key, timeout: float = 1.0) -> Manifest:
        self._call(f"get {resource.plural}/{key.name}")
        if (resource.plural, key) not in self.objects:
            raise NotFoundError(f"{key} not found")
        return copy.deepcopy(self.objects[resource.plural, key])

    async def create(
        self, resource: Resource, namespace: str, body: Manifest, timeout: float | None = None
    ) -> Manifest:
        self._call(f"create {resource.plural}/{body['metadata']['name']}")
        if (resource.plural, _key(body)) in self.objects:
            raise ConflictError(f"{_key(body)} already exists")
        return self.store(resource, body)

    async def replace(self, resource: Resource, key: Key, body: Manifest, timeout: float = 1.0) -> Manifest:
        self._call(f"replace {resource.plural}/{key.name}")
        if self.objects[resource.plural, key]["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise ConflictError(f"{key} has changed")
        return self.store(resource, body)

    async def merge(
        self,
        resource: Resource,
        key: Key,
        patch: Manifest,
        subresource: str | None = None,
        timeout: float | None = None,
    ) -> Manifest:
        self._call(f"merge {resource.plural}/{key.name}{f'/{subresource}' if subresource else ''}")
        known = self.objects.get((resource.plural, key))
        if known is None:
            raise NotFoundError(f"{key} not found")
        wanted = patch.get("metadata", {}).get("resourceVersion")
        if wanted not in (None, known["metadata"]["resourceVersion"]):
            raise ConflictError(f"{key} has changed")
        return self.store(resource, _merge(known, patch))

    async def delete(
        self, resource: Resource, key: Key, uid: str | None = None, *, grace_seconds: int | None = None
    ) -> None:
        self._call(f"delete {resource.plural}/{key.name}{'' if grace_seconds is None else f' in {grace_seconds} s'}")
        if (resource.plural, key) not in self.objects:
            raise NotFoundError(f"{key} not found")
        self.remove(resource, key)

    def _call(self, call: str) -> None:
        self.calls.append(call)
        if self.failures:
            raise self.failures.pop(0)


def _key(manifest: Manifest) -> Key:
    return Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def _merge(base: Any, patch: Any) -> Any:
    if not isinstance(patch, dict) or not isinstance(base, dict):
        return patch
    merged = base | {name: _merge(base.get(name), value) for name, value in patch.items()}
    return {name: value for name, value in merged.items() if value is not None}
