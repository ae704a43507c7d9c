"""The API server: the only module that uses the kubernetes client. Dicts in, dicts out.

Its generated API classes import every model of Kubernetes (127 MB), so only its configuration, authentication and
transport are used. Errors leave as those of errors.py. Must know nothing of jobs.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from pydantic_core import from_json

from finetune_contract import names
from finetune_operator.errors import ClusterError, LeaseLostError, UnavailableError, map_status
from finetune_operator.snapshot import Key
from finetune_operator.version import VERSION

CONNECTIONS: Final = 64
PAGE: Final = 100
"""Objects in one answer to a list: 100 pods are 5 MB as dicts."""
REQUEST_SECONDS: Final = 30.0
WATCH_SILENCE_SECONDS: Final = 150.0
"""A live watch brings a bookmark about every minute; a silent one is dead."""
_UNCOMPRESSED: Final = {"Accept-Encoding": "identity"}
"""To compress lists, and to unpack them, costs more here and there than to send them through a cluster's network."""
_MERGE: Final = "application/merge-patch+json"
_JSON: Final = "application/json"
_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


class Resource(NamedTuple):
    """A kind of object: where its collections lie."""

    prefix: str
    plural: str
    is_whole: bool = True
    """False: lists and watches bring metadata only."""

    def accept(self, kind: str) -> str:
        """The media type in which a list or a watch is asked for; `kind` is that of metadata alone."""
        return _JSON if self.is_whole else f"application/json;as={kind};g=meta.k8s.io;v=v1"

    @property
    def group(self) -> str:
        """API group; empty for Kubernetes' oldest one."""
        return self.prefix.split("/")[2] if self.prefix.startswith("/apis/") else ""

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Path of a collection or of one object."""
        parts = [self.prefix, *(["namespaces", namespace] if namespace else []), self.plural, name, subresource]
        return "/".join(part for part in parts if part)


JOBS: Final = Resource(f"/apis/{names.API_VERSION}", names.PLURAL)
PODS: Final = Resource("/api/v1", "pods")
CONFIG_MAPS: Final = Resource("/api/v1", "configmaps", is_whole=False)
NETWORK_POLICIES: Final = Resource("/apis/networking.k8s.io/v1", "networkpolicies")
EVENTS: Final = Resource("/apis/events.k8s.io/v1", "events")
LEASES: Final = Resource("/apis/coordination.k8s.io/v1", "leases")


class Page(NamedTuple):
    """One page of a list."""

    items: list[dict[str, Any]]
    position: int
    """Resource version of the list: a watch begins here."""
    token: str
    """Where the next page begins; empty: none."""


class Cluster:
    """One connection pool to one API server."""

    def __init__(self, configuration: Configuration, user_agent: str = names.MANAGED_BY) -> None:
        self._api = ApiClient(configuration)
        self._api.user_agent = user_agent
        self._write_seconds: Callable[[], float] = lambda: REQUEST_SECONDS

    @classmethod
    async def connect(cls, trace: aiohttp.TraceConfig | None = None, identity: str = "") -> Cluster:
        """By $KUBECONFIG, else by the service account of the pod, else by the user's own kubeconfig.

        `identity` tells replicas apart in the API server's audit log, where all sign in as the same account.
        """
        configuration = Configuration()
        try:
            if "KUBECONFIG" in os.environ or "KUBERNETES_SERVICE_HOST" not in os.environ:
                kubeconfig = os.environ.get("KUBECONFIG")
                await config.load_kube_config(config_file=kubeconfig, client_configuration=configuration)
            else:
                config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException as error:
            raise ClusterError(f"no cluster to talk to ({error}): set KUBECONFIG, or run in a pod") from error
        configuration.connection_pool_maxsize = CONNECTIONS
        configuration.trace_configs = [trace] if trace is not None else None
        # Otherwise the environment is read for every request, twice, in a thread.
        configuration.proxy = configuration.proxy or find_proxy(configuration.host)
        configuration.client_session_kwargs = {"trust_env": False}
        return cls(configuration, make_user_agent(identity))

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    def limit_writes(self, seconds_left: Callable[[], float]) -> None:
        """Have every write end within so many seconds of its begin, so that none lands after another's leadership."""
        self._write_seconds = seconds_left

    @property
    def server(self) -> str:
        """Address of the API server."""
        return str(self._api.configuration.host)

    async def open_session(self, hear: Callable[[], None] = lambda: None) -> aiohttp.ClientSession:
        """A session with fresh credentials, for somebody else to use and close; `hear` is told of each good answer."""
        configuration = self._api.configuration
        settings = await configuration.auth_settings()
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, ssl=self._api.rest_client.ssl_context),
            headers={
                "User-Agent": self._api.user_agent,
                **_UNCOMPRESSED,
                **{setting["key"]: setting["value"] for setting in settings.values()},
            },
            trace_configs=[*(configuration.trace_configs or ()), _make_listener(hear)],
            read_bufsize=2**21,
        )

    async def list_page(
        self, resource: Resource, namespace: str | None, *, selector: str = "", token: str = "", limit: int = PAGE
    ) -> Page:
        """One page of the objects, in one namespace or all."""
        query = {"limit": str(limit), "labelSelector": selector, "continue": token}
        accept = resource.accept("PartialObjectMetadataList")
        answer = await self._request("GET", resource.path(namespace), query, accept=accept)
        metadata = answer["metadata"]
        # An empty list of metadata is null.
        return Page(answer["items"] or [], int(metadata["resourceVersion"]), metadata.get("continue", ""))

    async def list_pages(
        self, resource: Resource, namespace: str | None, *, selector: str = "", limit: int = PAGE
    ) -> AsyncIterator[Page]:
        """All objects, page by page: thousands at once take hundreds of megabytes; GoneError where it took too long.

        While one page is looked at the API server makes the next.
        """

        def ask(token: str) -> asyncio.Task[Page]:
            return asyncio.create_task(self.list_page(resource, namespace, selector=selector, token=token, limit=limit))

        upcoming: asyncio.Task[Page] | None = ask("")
        try:
            while upcoming is not None:
                page = await upcoming
                upcoming = ask(page.token) if page.token else None
                yield page
                # Not three of them at a time.
                del page
        finally:
            if upcoming is not None:
                upcoming.cancel()

    async def list_metadata(self, resource: Resource, namespace: str | None) -> Page:
        """All objects without spec and status, as one page: who exists, in which version."""
        items: list[dict[str, Any]] = []
        position = 0
        async for page in self.list_pages(resource._replace(is_whole=False), namespace):
            position = position or page.position
            items += [{"metadata": _cut(item["metadata"])} for item in page.items]
        return Page(items, position, "")

    async def is_allowed(self, verb: str, resource: Resource, namespace: str | None, subresource: str = "") -> bool:
        """Whether the API server would let us do this: a question, although it is posted."""
        attributes = {
            "verb": verb,
            "group": resource.group,
            "resource": resource.plural,
            "subresource": subresource,
            "namespace": namespace or "",
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = await self._request("POST", _REVIEWS, body=review)
        return bool(answer["status"]["allowed"])

    async def watch(
        self, resource: Resource, namespace: str | None, *, selector: str, position: int, seconds: int
    ) -> AsyncIterator[dict[str, Any]]:
        """Events after `position` until the server ends the watch, after `seconds` at the latest."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": str(position),
            "timeoutSeconds": str(seconds),
            "labelSelector": selector,
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_SECONDS, sock_read=WATCH_SILENCE_SECONDS)
        try:
            path = resource.path(namespace)
            accept = resource.accept("PartialObjectMetadata")
            response = await self._send("GET", path, query, accept=accept, timeout=timeout)
            try:
                await _raise_for_status(response)
                async for line in response.content:
                    yield from_json(line)
            finally:
                response.close()
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UnavailableError(f"the watch of {resource.plural} broke off: {error!r}") from error

    async def get(self, resource: Resource, key: Key, timeout: float = REQUEST_SECONDS) -> dict[str, Any]:
        """One object."""
        return await self._request("GET", resource.path(*key), timeout=timeout)

    async def create(
        self, resource: Resource, namespace: str, body: dict[str, Any], timeout: float | None = None
    ) -> dict[str, Any]:
        """A new object; ConflictError where it exists, InvalidError also for fields that Kubernetes does not know.

        Not by server-side apply: that answers 500 to many mistakes that only the user can mend.
        """
        query = {"fieldManager": names.FIELD_MANAGER, "fieldValidation": "Strict"}
        return await self._write("POST", resource.path(namespace), query, body, timeout=timeout)

    async def replace(
        self, resource: Resource, key: Key, body: dict[str, Any], timeout: float | None = None
    ) -> dict[str, Any]:
        """An object as a whole; ConflictError where it changed since `body` was read."""
        query = {"fieldManager": names.FIELD_MANAGER}
        return await self._write("PUT", resource.path(*key), query, body, timeout=timeout)

    async def merge(
        self,
        resource: Resource,
        key: Key,
        patch: dict[str, Any],
        subresource: str | None = None,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """JSON merge patch; a resourceVersion in it makes it conditional (ConflictError)."""
        query = {"fieldManager": names.FIELD_MANAGER}
        path = resource.path(*key, subresource)
        return await self._write("PATCH", path, query, patch, content_type=_MERGE, timeout=timeout)

    async def delete(
        self, resource: Resource, key: Key, uid: str | None = None, *, grace_seconds: int | None = None
    ) -> None:
        """An object, and what it owns in the background; with a uid only that one (ConflictError).

        `grace_seconds` replaces the object's own grace; 0 takes a pod out without asking its node.
        """
        body: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        await self._write("DELETE", resource.path(*key), None, body)

    async def _write(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: dict[str, Any],
        *,
        content_type: str = _JSON,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """A request that must not outlast the right to write; a time of its own makes it shorter."""
        seconds = min(REQUEST_SECONDS, self._write_seconds()) if timeout is None else timeout
        if seconds <= 0:
            raise LeaseLostError(f"{method} {path}: another replica may lead by now; nothing is written")
        return await self._request(method, path, query, body, content_type=content_type, timeout=seconds)

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: dict[str, Any] | None = None,
        *,
        content_type: str = _JSON,
        accept: str = _JSON,
        timeout: float = REQUEST_SECONDS,
    ) -> dict[str, Any]:
        """One request, repeated as long as the API server asks to come back later and `timeout` allows it."""
        deadline = time.monotonic() + timeout
        while True:
            seconds = deadline - time.monotonic()
            try:
                return await self._request_once(
                    method, path, query, body, content_type=content_type, accept=accept, timeout=seconds
                )
            except UnavailableError as error:
                if error.retry_after is None or error.retry_after >= deadline - time.monotonic():
                    raise
                await asyncio.sleep(error.retry_after)

    async def _request_once(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: dict[str, Any] | None,
        *,
        content_type: str,
        accept: str,
        timeout: float,
    ) -> dict[str, Any]:
        try:
            response = await self._send(
                method,
                path,
                query,
                body,
                content_type=content_type,
                accept=accept,
                timeout=aiohttp.ClientTimeout(total=timeout),
            )
            async with response:
                await _raise_for_status(response)
                answer: dict[str, Any] = from_json(await response.read())
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UnavailableError(f"{method} {path}: the API server did not answer ({error!r})") from error
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: dict[str, Any] | None = None,
        *,
        content_type: str = _JSON,
        accept: str = _JSON,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        # Without the body: it is plain data already, which the client would copy leaf by leaf.
        method, url, headers, *_ = await self._api.param_serialize(
            method,
            path,
            query_params=[(name, value) for name, value in (query or {}).items() if value],
            header_params={"Accept": accept, "Content-Type": content_type, **_UNCOMPRESSED},
            auth_settings=["BearerToken"],
        )
        answer = await self._api.call_api(method, url, headers, body, _request_timeout=timeout)
        response: aiohttp.ClientResponse = answer.response
        return response


def _cut(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {name: metadata.get(name) for name in ("namespace", "name", "resourceVersion")}


def find_proxy(server: str) -> str | None:
    """The proxy that the environment names for this address (HTTPS_PROXY, NO_PROXY)."""
    parts = urlsplit(server)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


def make_user_agent(identity: str) -> str:
    """How a replica is called in the audit log."""
    return f"{names.MANAGED_BY}/{VERSION} ({identity})"


def _make_listener(hear: Callable[[], None]) -> aiohttp.TraceConfig:
    async def end(_session: aiohttp.ClientSession, _context: Any, params: aiohttp.TraceRequestEndParams) -> None:
        if params.response.status < 300:
            hear()

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(end)
    return trace


async def _raise_for_status(response: aiohttp.ClientResponse) -> None:
    if response.status < 300:
        return
    text = await response.text()
    try:
        message = json.loads(text)["message"]
    except (ValueError, KeyError, TypeError):
        message = text[:500] or str(response.reason)
    raise map_status(response.status, str(message), _read_retry_after(response))


def _read_retry_after(response: aiohttp.ClientResponse) -> float | None:
    """Seconds as Kubernetes writes them; a date, which HTTP allows too, is not waited for."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else None
