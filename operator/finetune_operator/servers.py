"""The operator's own HTTP: /metrics, and the probes on a port of their own. Answers questions, does nothing."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

log = logging.getLogger(__name__)
Check = Callable[[], str | None]
"""None where all is well, else what is wrong."""


@asynccontextmanager
async def serve(
    port: int, routes: dict[str, Callable[[], tuple[int, bytes]]], *, in_thread: bool = False
) -> AsyncIterator[None]:
    """Answer GET on each path with status and text.

    What takes long is made in a thread; a probe is not, for its answer is to prove that the event loop turns.
    """
    application = web.Application()
    for path, answer in routes.items():
        application.router.add_get(path, _make_handler(answer, in_thread=in_thread))
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, port=port).start()
        yield
    finally:
        await runner.cleanup()


def answer_check(name: str, check: Check) -> Callable[[], tuple[int, bytes]]:
    """200 where all is well, 503 with the reason where not; the log has each change of mind once."""
    said: list[str | None] = [None]

    def answer() -> tuple[int, bytes]:
        wrong = check()
        # Numbers grow while the reason stays.
        reason = None if wrong is None else re.sub(r"\d+", "", wrong)
        if reason != said[0]:
            if wrong is None:
                log.info("%s again", name)
            else:
                log.warning("not %s: %s", name, wrong)
            said[0] = reason
        return (200, b"ok\n") if wrong is None else (503, f"{wrong}\n".encode())

    return answer


def _make_handler(
    answer: Callable[[], tuple[int, bytes]], *, in_thread: bool
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        status, body = await asyncio.to_thread(answer) if in_thread else answer()
        return web.Response(status=status, body=body, content_type="text/plain", charset="utf-8")

    return handle
