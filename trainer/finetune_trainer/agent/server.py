"""HTTP: /ready for the kubelet's probe, /progress for the operator, /metrics for Prometheus. Reads only."""

from __future__ import annotations

import asyncio

from aiohttp import web

from finetune_contract import names
from finetune_trainer.agent.metrics import Metrics
from finetune_trainer.agent.progress import Board


async def start_server(board: Board, metrics: Metrics, host: str, port: int, told: asyncio.Event) -> web.AppRunner:
    """Serve until the runner is cleaned up; `told` is set once somebody has read news. Raises OSError (port taken)."""

    async def ready(request: web.Request) -> web.Response:
        """503 while there is news: the probe fails, and the operator hears of it."""
        return web.Response(status=503 if board.news else 200, text=f"{board.phase}\n")

    async def progress(request: web.Request) -> web.Response:
        if board.news:
            told.set()
        return web.Response(text=board.snapshot().to_json(), content_type="application/json")

    async def metrics_text(request: web.Request) -> web.Response:
        metrics.news.set(board.news)
        return web.Response(body=metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4"})

    application = web.Application()
    application.router.add_get(names.PATH_READY, ready)
    application.router.add_get(names.PATH_PROGRESS, progress)
    application.router.add_get(names.PATH_METRICS, metrics_text)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host or None, port).start()
    return runner
