"""The only module that uses kopf: the watch of FineTuneJobs, its login, its life inside our process.

The handlers write nothing and cannot fail: they hand bodies on. kopf's changing handlers, indexes, daemons, timers,
peering and event posting are not used.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import kopf

from finetune_contract import names
from finetune_operator.clients.cluster import PAGE, Cluster
from finetune_operator.log_lines import JsonLines

OperatorRegistry = kopf.OperatorRegistry

RETRIES: Final = (1, 1, 2, 3, 5, 8, 13, 21, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30)
"""Seconds between kopf's attempts to reach the API server; after the last it gives up, and so does the process."""
WATCH_SECONDS: Final = 300

See = Callable[[str | None, Mapping[str, Any]], None]
"""Takes a watch event's type (None: listed) and the job's body."""


class NoDiffs(kopf.DiffBaseStorage):
    """kopf finds out what changed for handlers that we do not have: a third of what an event costs."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        """Nothing is compared."""
        return cast("kopf.BodyEssence", {})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Nothing was kept."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing is kept."""


def configure_logging(level: str) -> None:
    """One JSON object a line, kopf's own words only where something is wrong."""
    kopf.configure(debug=level == "DEBUG", quiet=level in ("WARNING", "ERROR"), log_format=kopf.LogFormat.JSON)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(JsonLines())
    if level != "DEBUG":
        # Otherwise one line for every event of every job.
        logging.getLogger("kopf.objects").setLevel(logging.WARNING)


def make_registry(cluster: Cluster, see: See, hear: Callable[[], None]) -> OperatorRegistry:
    """All handlers; `hear` is told whenever the API server answers kopf."""
    registry = OperatorRegistry()

    @kopf.on.login(registry=registry, id="login")
    async def login(**_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(server=cluster.server, aiohttp_session=await cluster.open_session(hear))

    @kopf.on.startup(registry=registry, id="configure")
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False
        settings.persistence.diffbase_storage = NoDiffs()
        settings.scanning.disabled = True
        settings.peering.standalone = True
        settings.networking.error_backoffs = RETRIES
        # Bookmarks are kopf's own: only that a watch is opened anew shows us that one lives.
        settings.watching.server_timeout = WATCH_SECONDS
        # All bodies at once would be hundreds of megabytes.
        settings.watching.chunk_size = PAGE
        # Each seen object holds a task, and its body, as long as its queue idles.
        settings.queueing.idle_timeout = 0.05

    @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry, id="see_job")
    async def see_job(event: Mapping[str, Any], **_: Any) -> None:
        see(event["type"], event["object"])

    return registry


async def run_kopf(registry: OperatorRegistry, namespaces: tuple[str, ...], ready: asyncio.Event) -> None:
    """Watch until cancelled. kopf takes SIGTERM for itself on its way up; after `ready` the caller may take it back."""
    await kopf.operator(
        registry=registry,
        clusterwide=not namespaces,
        namespaces=namespaces,
        ready_flag=ready,
    )
