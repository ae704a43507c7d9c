"""The API server as the runs at scale use it: one session, plain requests, list and watch."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import yaml

MERGE = "application/merge-patch+json"
STRATEGIC_MERGE = "application/strategic-merge-patch+json"
PAGE = 500


class Api:
    """A user that may do everything, under a user agent of its own."""

    def __init__(self, kubeconfig: Path, agent: str, connections: int = 32) -> None:
        config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._server = cluster["server"]
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=ssl.create_default_context(cadata=authority)),
            headers={"Authorization": f"Bearer {user['token']}", "User-Agent": agent},
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=2**21,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def request(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> dict[str, Any]:
        """One request; anything but success is an error."""
        data = json.dumps(body).encode() if body is not None else None
        async with self._session.request(
            method, f"{self._server}{path}", data=data, headers={"Content-Type": kind}
        ) as answer:
            if answer.status >= 300:
                raise RuntimeError(f"{method} {path}: {answer.status} {await answer.text()}")
            found: dict[str, Any] = await answer.json()
            return found

    async def read_text(self, path: str) -> str:
        """A page that is no JSON, such as /metrics."""
        async with self._session.get(f"{self._server}{path}") as answer:
            return await answer.text()

    async def follow(self, path: str, selector: str = "") -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Every object and every change of it, for ever: type of the event (LISTED at first) and object."""
        position, query = "", f"labelSelector={selector}&limit={PAGE}"
        token = ""
        while True:
            page = await self.request("GET", f"{path}?{query}&continue={token}")
            for each in page["items"]:
                yield "LISTED", each
            position, token = page["metadata"]["resourceVersion"], page["metadata"].get("continue", "")
            if not token:
                break
        while True:
            async for type_, item in self._watch(path, selector, position):
                if type_ == "ERROR":
                    raise RuntimeError(f"the watch of {path} broke off: {item.get('message')}")
                position = item["metadata"]["resourceVersion"]
                if type_ != "BOOKMARK":
                    yield type_, item

    async def _watch(self, path: str, selector: str, position: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        query = f"watch=true&allowWatchBookmarks=true&labelSelector={selector}&resourceVersion={position}"
        async with self._session.get(f"{self._server}{path}?{query}&timeoutSeconds=3000") as answer:
            async for line in answer.content:
                event = json.loads(line)
                yield event["type"], event["object"]
