"""What has to be there before work begins: an API server, our rights, the CRD. Waits, and says what is missing.

A missing part is no reason to end: it may come, and then work begins by itself. Must not do any work.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from finetune_contract import names
from finetune_operator.clients import rights
from finetune_operator.clients.cluster import Cluster
from finetune_operator.errors import ClusterError, ForbiddenError, NotFoundError
from finetune_operator.settings import Settings

RETRY_SECONDS: Final = 5.0
REMIND_SECONDS: Final = 60.0
log = logging.getLogger(__name__)


class Start:
    """The way to the first reconciliation."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster, self._settings = cluster, settings
        self._said: tuple[str | None, float] = (None, 0.0)
        self.trouble: str | None = "the API server has not been asked yet"
        """What is missing, in the words of the log; None: nothing."""

    async def until_done(self, step: Callable[[], Awaitable[None]]) -> None:
        """Try a step until it succeeds, and say what it lacks."""
        while True:
            try:
                await step()
            except ClusterError as error:
                self._complain(self._explain(error))
            else:
                self._recover()
                return
            await asyncio.sleep(RETRY_SECONDS)

    async def check_rights(self) -> None:
        """Pass, or ForbiddenError with one line for every right that is missing."""
        scopes = self._settings.scopes
        networks = rights.FOR_NETWORKS if self._settings.trainer.network is not None else ()
        missing = await rights.find_missing(self._cluster, (*rights.NEEDED, *networks), scopes)
        missing += await rights.find_missing(self._cluster, rights.LEADERS, (self._settings.namespace,))
        if missing:
            raise ForbiddenError("\n".join(missing))
        for sentence in await rights.find_missing(self._cluster, rights.WANTED, scopes):
            log.warning("%s; work goes on without", sentence)

    def _explain(self, error: ClusterError) -> str:
        if isinstance(error, NotFoundError):
            return (
                f"the API server does not know {names.KIND}s: install the CRD "
                "(the chart's crds.enabled, or kubectl apply --server-side -f crds/finetune.dev_finetunejobs.yaml)"
            )
        if isinstance(error, ForbiddenError):
            return str(error)
        return f"the API server at {self._cluster.server} cannot be asked: {error}"

    def _complain(self, trouble: str) -> None:
        """Once, and again when it is another trouble or an old one."""
        self.trouble = trouble
        said, at = self._said
        if trouble == said and time.monotonic() - at < REMIND_SECONDS:
            return
        for sentence in trouble.splitlines():
            log.error("%s; trying again every %d s", sentence, RETRY_SECONDS)
        self._said = trouble, time.monotonic()

    def _recover(self) -> None:
        self.trouble = None
        if self._said[0] is not None:
            log.info("what was missing is there")
            self._said = None, 0.0
