"""An S3 server that fails on demand: a proxy before the real one, on an address that pods reach.

The signature of a request covers its Host header, so that is passed on as it came.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web
from yarl import URL

HOP_BY_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"})
CHUNK: Final = 65_536
Result = TypeVar("Result")


@dataclass(frozen=True)
class Fault:
    """What becomes of the requests that it is about."""

    name: str
    status: int | None = None
    """Answered without asking the server; None with `code` empty: the connection is cut."""
    code: str = ""
    """S3's own word for the error."""
    delay_seconds: float = 0.0
    """Before the request is passed on."""
    methods: frozenset[str] | None = None
    """Only these; None: all."""

    @property
    def passes_on(self) -> bool:
        """The server hears of it in the end."""
        return self.delay_seconds > 0.0

    def concerns(self, request: web.Request) -> bool:
        """Whether this request is one of them."""
        return self.methods is None or request.method in self.methods


DOWN: Final = Fault("down")
FORBIDDEN: Final = Fault("forbidden", status=403, code="AccessDenied")
FULL: Final = Fault("full", status=507, code="InsufficientStorage", methods=frozenset({"PUT", "POST"}))
SLOW: Final = Fault("slow", delay_seconds=2.0)


class S3Proxy:
    """Runs in a thread of its own; `failing` breaks it for a while."""

    def __init__(self, target: str, host: str) -> None:
        self._target = target.rstrip("/")
        self._host = host
        self._fault: Fault | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="s3-proxy")
        self.writes: list[tuple[str, str]] = []
        """(client's address, path) of every PUT, POST and DELETE that reached the server."""
        self.failed = 0
        """Requests that met a fault."""
        self.address = ""

    def __enter__(self) -> S3Proxy:
        self._thread.start()
        self._runner, self._session, self.address = self._call(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        """Break it as long as the block runs."""
        self._fault, self.failed = fault, 0
        try:
            yield
        finally:
            self._fault = None

    def _call(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)

    async def _start(self) -> tuple[web.AppRunner, ClientSession, str]:
        session = ClientSession(
            connector=TCPConnector(limit=0),
            timeout=ClientTimeout(total=None),
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
        )
        application = web.Application(client_max_size=2**40)
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, self._host, 0)
        await site.start()
        port = runner.addresses[0][1]
        return runner, session, f"http://{self._host}:{port}"

    async def _close(self) -> None:
        await self._session.close()
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        fault = self._fault
        if fault is not None and fault.concerns(request):
            self.failed += 1
            if not fault.passes_on:
                return _refuse(request, fault)
            await asyncio.sleep(fault.delay_seconds)
        return await self._pass_on(request)

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        if request.method in ("PUT", "POST", "DELETE"):
            self.writes.append((request.remote or "", request.path))
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        url = URL(self._target + request.raw_path, encoded=True)
        body = request.content if request.body_exists else None
        skipped = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
        async with self._session.request(
            request.method, url, headers=headers, data=body, skip_auto_headers=skipped, allow_redirects=False
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for chunk in answer.content.iter_chunked(CHUNK):
                await response.write(chunk)
            await response.write_eof()
            return response


def _refuse(request: web.Request, fault: Fault) -> web.StreamResponse:
    if fault.status is None:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=503)
    text = f"<?xml version='1.0'?><Error><Code>{fault.code}</Code><Message>{fault.name}</Message></Error>"
    return web.Response(status=fault.status, text=text, content_type="application/xml")
