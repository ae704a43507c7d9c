"""Step 3: the data, prepared once for the job by a process of its own that has the credentials."""

from __future__ import annotations

import asyncio
import sys

from finetune_contract import names
from finetune_trainer.agent.child_words import Listener, describe_end
from finetune_trainer.agent.children import run_child
from finetune_trainer.agent.site import Site
from finetune_trainer.errors import ReportedError, StorageError
from finetune_trainer.results import PreparedPointer

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 3.0


async def find_pointer(site: Site) -> PreparedPointer | None:
    """The job's prepared.json, if preparation is done."""
    return await asyncio.to_thread(site.store.get_document, names.FILE_PREPARED, PreparedPointer)


async def prepare(site: Site) -> PreparedPointer:
    """Prepare unless it is done. Raises ReportedError with the user's mistake, or how the process ended."""
    if (pointer := await find_pointer(site)) is not None:
        return pointer
    settings, listener = site.settings, Listener(site.board)
    work_dir = settings.work_dir / "prepare"
    work_dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "finetune_trainer.data"]
    command += ["--run", str(settings.run_path), "--work-dir", str(work_dir)]
    site.board.enter("Preparing")
    end = await run_child(command, site.trusted_environment, "prepare", listener.hear)
    site.board.set_preparation(None)
    if end.exit_code != 0 or listener.failure is not None:
        raise ReportedError(listener.failure or describe_end(end, settings.node, "data preparation"))
    if (pointer := await find_pointer(site)) is None:
        raise StorageError(f"{site.store.uri}/{names.FILE_PREPARED}: preparation ended well and wrote nothing")
    return pointer


async def await_pointer(site: Site) -> PreparedPointer:
    """Wait for another node's preparation."""
    site.board.enter("Preparing")
    seconds = FIRST_WAIT_SECONDS
    while (pointer := await find_pointer(site)) is None:
        await asyncio.sleep(seconds)
        seconds = min(seconds * 1.3, LONGEST_WAIT_SECONDS)
    return pointer
