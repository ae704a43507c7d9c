"""Step 8, on node 0: card, manifest and report are written, what passed its gates is uploaded, the outcome comes last.

Every step can be done again: an attempt that was lost in between finds no steps left and comes here once more.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from finetune_contract import names
from finetune_contract.attempt import Attempt
from finetune_contract.progress import CheckpointRecord, Outcome, Published
from finetune_contract.report import Report, evaluation_of
from finetune_trainer.agent.checkpoints import show_ledger
from finetune_trainer.agent.child_words import Listener, describe_end
from finetune_trainer.agent.children import run_child
from finetune_trainer.agent.inputs import Inputs
from finetune_trainer.agent.site import Site
from finetune_trainer.errors import ReportedError
from finetune_trainer.results import PreparedPointer
from finetune_trainer.store.digests import sha256_text
from finetune_trainer.store.fence import check_fence
from finetune_trainer.store.ledger import Ledger, change_ledger, read_ledger
from finetune_trainer.store.outcome import read_outcome, write_outcome
from finetune_trainer.store.transfer import upload_folder

POLL_SECONDS = 1.0


async def publish(site: Site, attempt: Attempt, pointer: PreparedPointer, inputs: Inputs) -> Outcome:
    """Write the report, upload the model if it passed, write the outcome.

    Raises FencedError, StorageError, and ReportedError when the publisher fails.
    """
    site.board.enter("Publishing")
    attempt_dir = site.settings.attempt_dir(attempt.number)
    report = await write_report(site, attempt, pointer, inputs, attempt_dir)
    return await asyncio.to_thread(_upload_all, site, attempt, report, attempt_dir)


async def await_outcome(site: Site) -> Outcome:
    """The other nodes: wait for the outcome that node 0 writes."""
    site.board.enter("Publishing")
    while (outcome := await asyncio.to_thread(read_outcome, site.store)) is None:
        await asyncio.sleep(POLL_SECONDS)
    return outcome


async def write_report(
    site: Site, attempt: Attempt, pointer: PreparedPointer, inputs: Inputs, attempt_dir: Path
) -> Report:
    """Run the publisher, without credentials, and read its report."""
    ledger = await asyncio.to_thread(read_ledger, site.store)
    ledger_file = attempt_dir / names.FILE_LEDGER
    ledger_file.write_text(ledger.to_json())
    options = {
        "--run": site.settings.run_path,
        "--evaluation": attempt_dir / "evaluation.json",
        "--data": inputs.data,
        "--export": attempt_dir / "export",
        "--ledger": ledger_file,
        "--attempt": attempt.number,
        "--published-uri": f"{site.store.uri}/{names.PUBLISHED_FOLDER}",
        "--output": attempt_dir / "report",
        "--model-revision": pointer.model_revision,
    }
    command = [sys.executable, "-m", "finetune_trainer.publish"]
    command += [text for name, value in options.items() for text in (name, str(value))]
    listener = Listener(site.board)
    end = await run_child(command, os.environ, "publish", listener.hear)
    if end.exit_code != 0:
        raise ReportedError(listener.failure or describe_end(end, site.settings.node, "writing the report"))
    return Report.from_data(json.loads((attempt_dir / "report" / names.FILE_REPORT_JSON).read_bytes()))


def _upload_all(site: Site, attempt: Attempt, report: Report, attempt_dir: Path) -> Outcome:
    store, number = site.store, attempt.number
    published = _upload_model(site, number, attempt_dir / "export") if report.succeeded else None
    check_fence(store, number)
    upload_folder(store, attempt_dir / "report", last=names.FILE_REPORT_JSON)
    _judge_checkpoint(site, number, report)
    check_fence(store, number)
    outcome = Outcome(
        succeeded=report.succeeded,
        reason=report.reason,
        message=report.message,
        attempt=number,
        step=report.best_step,
        evaluation=evaluation_of(report),
        published=published,
        report=f"{store.uri}/{names.FILE_REPORT_HTML}",
        at=time.time(),
    )
    return write_outcome(store, outcome)


def _upload_model(site: Site, attempt: int, export: Path) -> Published:
    """Upload the exported folder, its manifest last, and remove what a lost attempt may have left beside it."""
    store, folder = site.store, names.PUBLISHED_FOLDER
    check_fence(store, attempt)
    files = upload_folder(store, export, folder, last=names.FILE_PUBLISHED_MANIFEST)
    wanted = {f"{folder}/{name}" for name in files}
    store.delete(*(entry.path for entry in store.list(folder) if entry.path not in wanted))
    digest = sha256_text((export / names.FILE_PUBLISHED_MANIFEST).read_bytes())
    return Published(uri=f"{store.uri}/{folder}", digest=digest)


def _judge_checkpoint(site: Site, attempt: int, report: Report) -> None:
    """Say in the ledger what became of the checkpoint whose weights were judged."""

    def judge(record: CheckpointRecord) -> CheckpointRecord:
        if record.step != report.best_step or not record.metrics:
            return record
        return record.model_copy(update={"state": "Promoted" if report.succeeded else "Rejected"})

    ledger = change_ledger(
        site.store, attempt, lambda old: Ledger(checkpoints=tuple(judge(record) for record in old.checkpoints))
    )
    show_ledger(site, ledger)
