"""A proxy between a client and the API server that fails on command, and writes down every call.

Plain HTTP towards the client, which keeps its token; the API server's certificate is checked. Runs in a thread of its
own. Must not judge: it does what the rules say.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import aiohttp
import yaml
from aiohttp import web

from tests.control_plane.kubelet import find_port

Verb = Literal["list", "watch", "get", "create", "update", "patch", "delete"]
WRITES: Final = ("create", "update", "patch", "delete")
_VERBS: Final[dict[str, Verb]] = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_OWN_HEADERS: Final = {"host", "content-length", "transfer-encoding", "connection", "content-encoding"}


@dataclass
class Call:
    """One request of the client."""

    at: float
    """Monotonic seconds of its arrival."""
    verb: Verb
    resource: str
    """Plural, with a slash and the subresource where there is one."""
    name: str
    number: int = 0
    """Which write it is, from 1, leases not counted; 0: no write."""
    answer: str = "none yet"
    """HTTP status, or what was done instead of answering."""

    @property
    def is_write(self) -> bool:
        """Whether it changes something, leases included; to ask for one's rights is to create a question."""
        return self.verb in WRITES and self.resource != "selfsubjectaccessreviews"


@dataclass(frozen=True)
class Fault:
    """What happens to a call."""

    name: str
    status: int = 0
    """Answer this instead; 0: do not answer."""
    retry_after: int | None = None
    """Seconds, told with the status."""
    reached: bool = False
    """The API server has carried the request out before."""
    hang: bool = False
    """Keep the client waiting until it gives up; otherwise its connection is reset."""
    within: bool = False
    """The status is told as an event of a watch that begins well."""


CONFLICT: Final = Fault("409", 409)
GONE: Final = Fault("410", 410)
TOO_MANY: Final = Fault("429, Retry-After 1 s", 429, retry_after=1)
BROKEN: Final = Fault("500", 500)
BUSY: Final = Fault("503", 503)
SILENT: Final = Fault("no answer", hang=True)
SILENT_AFTER: Final = Fault("carried out, no answer", reached=True, hang=True)
GONE_WITHIN: Final = Fault("410 within the watch", 410, within=True)
RESET: Final = Fault("connection reset before")
RESET_AFTER: Final = Fault("connection reset after", reached=True)


@dataclass
class Rule:
    """Which calls a fault meets."""

    fault: Fault
    matches: Callable[[Call], bool]
    times: int = 1
    """How many calls it meets."""
    then: Callable[[], None] | None = None
    """Done before the client learns of it; after the request was carried out, where it is."""
    met: int = 0


@dataclass
class ApiProxy:
    """Listens on a port of 127.0.0.1."""

    upstream: Path
    """Kubeconfig of the real API server."""
    kubeconfig: Path
    """Written here: the same user on this proxy."""
    calls: list[Call] = field(default_factory=list)
    """Everything that was asked, in order of arrival."""
    rules: list[Rule] = field(default_factory=list)
    """The first that matches and is not used up counts."""
    away: bool = False
    """While set every call is cut off, as if no server were there."""

    def __post_init__(self) -> None:
        config = yaml.safe_load(self.upstream.read_text(encoding="utf-8"))
        cluster = config["clusters"][0]["cluster"]
        self._server = str(cluster["server"])
        self._authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._port = find_port()
        config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{self._port}"}
        self.kubeconfig.write_text(yaml.safe_dump(config), encoding="utf-8")
        self._loop = asyncio.new_event_loop()
        self._streams: list[web.BaseRequest] = []
        self._writes = 0
        self._started = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()), daemon=True)

    def __enter__(self) -> ApiProxy:
        self._thread.start()
        assert self._started.wait(10), "the proxy does not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

    @property
    def writes(self) -> list[Call]:
        """Writes other than those of leases."""
        return [call for call in tuple(self.calls) if call.number]

    def go_away(self) -> None:
        """From now on there is no server."""
        self.away = True
        self.cut_watches()

    def come_back(self) -> None:
        """The server is there again."""
        self.away = False

    def cut_watches(self) -> None:
        """Reset every open watch."""
        self._loop.call_soon_threadsafe(lambda: [_reset(each) for each in tuple(self._streams)])

    async def _serve(self) -> None:
        context = ssl.create_default_context(cadata=self._authority)
        connector = aiohttp.TCPConnector(limit=0, ssl=context)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
            self._session = session
            runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self._port).start()
            self._started.set()
            await self._stop.wait()
            await runner.cleanup()
            await _cancel_all()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        call = self._enter(request)
        if self.away:
            call.answer = "away"
            return _reset(request)
        body = await request.read()
        rule = self._find_rule(call)
        if rule is None:
            return await self._forward(request, call, body)
        if rule.fault.reached:
            await (await self._ask(request, body)).read()
        if rule.then is not None:
            rule.then()
        call.answer = rule.fault.name
        return await self._fail(request, rule.fault)

    def _enter(self, request: web.BaseRequest) -> Call:
        verb, resource, name = classify(request)
        call = Call(time.monotonic(), verb, resource, name)
        if call.is_write and resource != "leases":
            self._writes += 1
            call.number = self._writes
        self.calls.append(call)
        return call

    def _find_rule(self, call: Call) -> Rule | None:
        for rule in self.rules:
            if rule.met < rule.times and rule.matches(call):
                rule.met += 1
                return rule
        return None

    async def _fail(self, request: web.BaseRequest, fault: Fault) -> web.StreamResponse:
        if fault.status:
            headers = {"Retry-After": str(fault.retry_after)} if fault.retry_after is not None else {}
            status = {"kind": "Status", "status": "Failure", "code": fault.status, "message": f"drill: {fault.name}"}
            if fault.within:
                return web.json_response({"type": "ERROR", "object": status})
            return web.json_response(status, status=fault.status, headers=headers)
        while fault.hang and not _is_closed(request) and not self._stop.is_set():
            await asyncio.sleep(0.05)
        return _reset(request)

    async def _ask(self, request: web.BaseRequest, body: bytes) -> aiohttp.ClientResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OWN_HEADERS}
        url = self._server + request.path_qs
        return await self._session.request(
            request.method, url, headers=headers, data=body or None, skip_auto_headers=("Content-Type", "User-Agent")
        )

    async def _forward(self, request: web.BaseRequest, call: Call, body: bytes) -> web.StreamResponse:
        try:
            answer = await self._ask(request, body)
        except aiohttp.ClientError as error:
            call.answer = repr(error)
            return _reset(request)
        async with answer:
            call.answer = str(answer.status)
            if call.verb == "watch":
                return await self._stream(request, answer)
            response = web.Response(status=answer.status, body=await answer.read())
            response.headers["Content-Type"] = answer.headers.get("Content-Type", "application/json")
            if "Content-Encoding" in answer.headers:
                response.headers["Content-Encoding"] = answer.headers["Content-Encoding"]
            return response

    async def _stream(self, request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status)
        response.headers["Content-Type"] = answer.headers.get("Content-Type", "application/json")
        await response.prepare(request)
        self._streams.append(request)
        try:
            async for chunk in answer.content.iter_any():
                if self.away:
                    return _reset(request)
                await response.write(chunk)
        except (aiohttp.ClientError, ConnectionError):
            return _reset(request)
        finally:
            self._streams.remove(request)
        return response


def classify(request: web.BaseRequest) -> tuple[Verb, str, str]:
    """Verb, resource with subresource, and name, as the API server's audit log has them."""
    parts = request.path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    if len(parts) > 2 and parts[0] == "namespaces":
        parts = parts[2:]
    resource, name, subresource = (*parts, "", "", "")[:3]
    resource = f"{resource}/{subresource}" if subresource else resource
    if request.method != "GET":
        return _VERBS[request.method], resource, name
    if "watch" in request.query:
        return "watch", resource, name
    return ("get" if name or not resource else "list"), resource, name


def call_of(verb: Verb, resource: str) -> Callable[[Call], bool]:
    """Match calls of this kind."""
    return lambda call: (call.verb, call.resource) == (verb, resource)


def nth_write(number: int) -> Callable[[Call], bool]:
    """Match one write."""
    return lambda call: call.number == number


async def _cancel_all() -> None:
    """What still waits for a client that is gone."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _is_closed(request: web.BaseRequest) -> bool:
    return request.transport is None or request.transport.is_closing()


def _reset(request: web.BaseRequest) -> web.StreamResponse:
    """Cut the client off; what is returned goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
