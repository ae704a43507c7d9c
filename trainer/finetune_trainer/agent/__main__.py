"""`python -m finetune_trainer.agent`: the first process of a trainer pod. Puts the parts together; decides nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from finetune_contract import names
from finetune_contract.progress import Progress
from finetune_trainer.agent.credentials import forbid_inspection, take_credentials
from finetune_trainer.agent.follow import Follower
from finetune_trainer.agent.launcher import Launcher, prepare_environment
from finetune_trainer.agent.log_format import Place, find_format, make_formatter
from finetune_trainer.agent.metrics import Metrics
from finetune_trainer.agent.orphans import adopt_orphans
from finetune_trainer.agent.peak import find_peak_flops
from finetune_trainer.agent.progress import Board
from finetune_trainer.agent.server import start_server
from finetune_trainer.agent.settings import Settings, read_settings
from finetune_trainer.agent.shared_memory import claim_memory
from finetune_trainer.agent.site import Site
from finetune_trainer.agent.termination import write_end
from finetune_trainer.errors import FineTuneError
from finetune_trainer.logs import Event, set_up, tell
from finetune_trainer.store.store import Store

THREADS = 16
"""For calls to the store; each may wait long."""

LEAVE_SECONDS = 20.0
"""How long snapshots of a failed attempt may take to be uploaded before the agent leaves."""
DEFAULT_LAUNCHER = Launcher()

logger = logging.getLogger("finetune_trainer.agent")


def main(launcher: Launcher = DEFAULT_LAUNCHER) -> None:
    """Run the agent until it may leave."""
    place = Place()
    set_up(sys.stdout, make_formatter(find_format(os.environ), place))
    trusted_environment = dict(os.environ)
    take_credentials(os.environ)
    forbid_inspection()
    try:
        settings = read_settings(os.environ)
        job = settings.run.job
        place.namespace, place.job, place.node = job.namespace, job.name, settings.node
        logger.info(
            "the agent of node %d begins, a %s of job %s/%s",
            settings.node,
            settings.role,
            job.namespace,
            job.name,
            extra=tell(Event.AGENT_STARTED, role=settings.role, version=settings.run.program, host=settings.machine),
        )
        _begin_launching(settings, launcher)
        asyncio.run(_serve(settings, trusted_environment, launcher, place))
    except FineTuneError as error:
        logger.error("%s", error, extra=tell(Event.ATTEMPT_FAILED, reason=error.reason))
        _tell_before_serving(error)
        _leave(int(error.exit_code))
    except Exception as error:
        logger.exception("the agent crashed: %s: %s; please report this", type(error).__name__, error)
        _leave(1)


def _tell_before_serving(error: FineTuneError) -> None:
    """Without settings there is no server that could tell; the pod's termination message is all there is."""
    log = os.environ.get(names.ENV_TERMINATION_LOG)
    failed = Progress(job_uid="", node=0, role=names.ROLE_TRAINER, phase="Failed", failure=error.to_failure())
    write_end(Path(log) if log else None, failed)


def _begin_launching(settings: Settings, launcher: Launcher) -> None:
    """Set the environment that workers inherit, then start their forkserver (a prepare pod has no workers)."""
    settings.work_dir.mkdir(parents=True, exist_ok=True)
    prepare_environment(os.environ, settings.run, settings.work_dir)
    if settings.role == names.ROLE_TRAINER:
        adopt_orphans()
        launcher.begin()


async def _serve(settings: Settings, trusted_environment: Mapping[str, str], launcher: Launcher, place: Place) -> None:
    loop, terminated, told = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="agent"))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, terminated.set)
    metrics = Metrics(settings.run, settings.node, find_peak_flops())
    board = Board(
        settings.run.job.uid, settings.node, settings.role, host=settings.machine, entered=metrics.enter_phase
    )
    runner = await start_server(board, metrics, settings.host, settings.port, told)
    store = Store.open(settings.run.job_uri, trusted_environment, count_failure=metrics.count_storage_error)
    memory = claim_memory(settings)
    site = Site(settings, trusted_environment, store, board, metrics, launcher, memory=memory, place=place)
    await Follower(site, terminated, told).follow()
    await site.held.wait(LEAVE_SECONDS)
    write_end(settings.termination_log, board.snapshot())
    await runner.cleanup()
    site.memory.remove()
    # Threads in a slow transfer cannot be cancelled, and asyncio.run would wait for them.
    _leave(0)


def _leave(code: int) -> None:
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
