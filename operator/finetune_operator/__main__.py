"""`python -m finetune_operator`: the process. Reads settings, runs the manager beside kopf, ends both in order."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from contextlib import suppress
from typing import Any, Final

from finetune_operator.clients.cluster import Cluster
from finetune_operator.errors import OperatorError
from finetune_operator.handlers import OperatorRegistry, configure_logging, make_registry, run_kopf
from finetune_operator.manager import Manager
from finetune_operator.metrics import Metrics
from finetune_operator.servers import answer_check, serve
from finetune_operator.settings import Settings, read_settings

GARBAGE_THRESHOLDS: Final = (5_000, 10, 10)
"""New objects, and younger collections, before the collector looks for cycles.

By default (700) it takes an eighth of a busy operator's time: thousands of jobs are held in caches of plain values, and
cycles are few. But errors are among them, which hold what was being read: at 20,000 an operator of
3,000 jobs came to 281 MiB.
"""
FILLING_SECONDS: Final = 60.0
"""At most so long after its start the process does without the collector."""
log = logging.getLogger("finetune_operator")


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run until `stop`, or until a part of the operator ends by itself, which is an error."""
    metrics = Metrics()
    cluster = await Cluster.connect(metrics.make_trace(), settings.identity)
    manager = Manager(settings, cluster, metrics)
    probes = {
        "/healthz": answer_check("alive", manager.check_alive),
        "/readyz": answer_check("ready", manager.check_ready),
    }
    try:
        async with (
            serve(settings.metrics_port, {"/metrics": lambda: (200, metrics.render())}, in_thread=True),
            serve(settings.probe_port, probes),
        ):
            await _run_parts(manager, make_registry(cluster, manager.see, manager.hear), settings, stop)
    finally:
        await cluster.close()


async def _run_parts(manager: Manager, registry: OperatorRegistry, settings: Settings, stop: asyncio.Event) -> None:
    ready = asyncio.Event()
    work = asyncio.create_task(manager.run(), name="manager")
    asked = asyncio.create_task(stop.wait(), name="stop")
    signals = asyncio.create_task(_take_signals(ready, stop), name="signals")
    collector = asyncio.create_task(_start_collector(manager), name="collector")
    watch = asyncio.create_task(_watch(manager, registry, settings, ready), name="kopf")
    try:
        await asyncio.wait({work, asked, watch}, return_when=asyncio.FIRST_COMPLETED)
        if asked.done():
            log.info("stopping")
            await manager.stop()
        elif work.done():
            work.result()
        else:
            watch.result()
            raise OperatorError("the watch of FineTuneJobs ended: the pod is to be started again")
    finally:
        # kopf last: on its way out it cancels every task that is younger than itself.
        await _cancel(work, asked, signals, collector)
        await _cancel(watch)


async def _watch(manager: Manager, registry: OperatorRegistry, settings: Settings, ready: asyncio.Event) -> None:
    """Watch jobs as soon as there are such: kopf looks for the CRD only once."""
    await manager.served.wait()
    await run_kopf(registry, settings.watch_namespaces, ready)


async def _start_collector(manager: Manager) -> None:
    """Let the collector of cycles work once the caches are filled.

    While they fill it looks through thousands of dicts of each page of a list, a sixth of the CPU time that readiness
    takes with 3,000 jobs, and finds nothing.
    """
    with suppress(TimeoutError):
        await asyncio.wait_for(manager.served.wait(), FILLING_SECONDS)
    gc.enable()


async def _take_signals(ready: asyncio.Event, stop: asyncio.Event) -> None:
    """Let SIGTERM and SIGINT stop the operator in order, and again once kopf has installed its own handlers."""
    _handle_signals(stop)
    await ready.wait()
    _handle_signals(stop)


def _handle_signals(stop: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def main() -> int:
    """Run; 0 after an orderly stop, 1 where the pod is to be started again."""
    failed = False
    try:
        settings = read_settings()
        configure_logging(settings.log_level)
        gc.set_threshold(*GARBAGE_THRESHOLDS)
        gc.disable()
        asyncio.run(run(settings, asyncio.Event()))
    except* OperatorError as errors:
        failed = True
        for error in errors.exceptions:
            log.error("operator ends: %s", error, extra={"error_type": type(error).__name__})
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
