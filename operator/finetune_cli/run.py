"""`finetune run`: a job on this machine, from the same YAML and with the operator's own plan.

Reads as the story; the parts stand in files of their own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from finetune_cli.display import open_display
from finetune_cli.earlier_runs import (
    EarlierRuns,
    delete_earlier_runs,
    find_changes,
    read_earlier_runs,
    record_run,
)
from finetune_cli.errors import InvalidError, RunError
from finetune_cli.gpus import count_gpus
from finetune_cli.job_file import read_one_job
from finetune_cli.local_job import Machine, localize, parse_claims
from finetune_cli.output import OutputFormat, print_json, talk
from finetune_cli.run_folder import RunFolder, lock_run
from finetune_cli.stop_signals import hear_signals
from finetune_cli.verdict import Verdict, judge_outcome, print_verdict
from finetune_contract.exits import CommandExit
from finetune_contract.run import RunConfig

if TYPE_CHECKING:
    from finetune_trainer.store.store import Store

_NEEDED: Final = ("torch", "transformers", "deepspeed", "obstore", "aiohttp")


@dataclass(frozen=True)
class RunOptions:
    """What the command line says beside the file."""

    processes: int | None
    claims: tuple[str, ...]
    fresh: bool
    work_dir: Path
    output: OutputFormat


def run_job(file: Path, options: RunOptions) -> CommandExit:
    """Run the file's job to its end or to a stop. Raises InvalidError and RunError."""
    run = make_run(file, options)
    _check_installed()
    from finetune_trainer.store.store import Store

    folder = RunFolder(options.work_dir.absolute() / run.job.name)
    with lock_run(folder) as lock:
        store = Store.open(run.job_uri)
        earlier = find_start(store, run, folder, fresh=options.fresh)
        if earlier.outcome is not None:
            talk().print(f"{run.job.name} has ended before; --fresh runs it anew")
            verdict = judge_outcome(run.job.name, earlier.outcome)
        else:
            verdict = _run(run, store, earlier, folder, lock)
    if options.output is OutputFormat.JSON:
        print_json(verdict.to_data())
    else:
        print_verdict(verdict, folder)
    return verdict.exit_code


def make_run(file: Path, options: RunOptions) -> RunConfig:
    """The run of a file's job on this machine. Raises InvalidError."""
    from finetune_operator.plan.resolve import build_run_config

    job = read_one_job(file)
    gpus = count_gpus()
    machine = Machine(
        processes=options.processes or max(gpus, 1),
        gpus=gpus,
        claims=parse_claims(list(options.claims)),
        here=Path.cwd(),
    )
    return build_run_config(localize(job, machine))


def find_start(store: Store, run: RunConfig, folder: RunFolder, *, fresh: bool) -> EarlierRuns:
    """What this run goes on from; nothing after --fresh, or where a changed job has nothing to lose.

    Raises InvalidError where another job of this name has checkpoints or an outcome.
    """
    earlier = read_earlier_runs(store)
    if fresh:
        return _start_anew(store, folder, "--fresh")
    changes = find_changes(earlier.run.spec, run.spec) if earlier.run else ()
    if not changes:
        return earlier
    if not earlier.checkpoints and earlier.outcome is None:
        return _start_anew(store, folder, "the job has changed and has no checkpoint yet")
    raise InvalidError(
        f"{store.uri} holds a run of another job of this name:\n  " + "\n  ".join(changes),
        "undo the changes to resume, choose another metadata.name, or delete the earlier run with --fresh",
    )


def _start_anew(store: Store, folder: RunFolder, why: str) -> EarlierRuns:
    count = delete_earlier_runs(store)
    folder.clear()
    if count:
        talk().print(f"{why}: deleted {count} files of an earlier run in {store.uri}", markup=False)
    return EarlierRuns()


def _run(run: RunConfig, store: Store, earlier: EarlierRuns, folder: RunFolder, lock: int) -> Verdict:
    from finetune_cli.local_attempts import open_account
    from finetune_cli.local_run import LocalRun
    from finetune_cli.restarts import Restarts, run_attempts

    record_run(store, run)
    folder.reset()
    folder.run_file.write_text(run.to_json(indent=2))
    _announce(run, folder)
    with hear_signals() as signals:
        display = open_display()
        try:
            local = LocalRun(run, folder, display, signals, open_account(earlier, time.time()))
            return run_attempts(Restarts(local, store, lock))
        finally:
            display.close()


def _announce(run: RunConfig, folder: RunFolder) -> None:
    resolved = run.resolved
    where = f"{resolved.world_size} {'process' if resolved.world_size == 1 else 'processes'} on {resolved.device}"
    talk().print(
        f"{run.job.name}: {run.spec.task} by {run.spec.strategy.method} with {where}; results in {run.job_uri}",
        markup=False,
    )
    talk().print(f"log: {folder.log}; Ctrl-C stops with a checkpoint", markup=False)


def _check_installed() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise RunError(
            f"the trainer's packages are not installed here (missing: {', '.join(missing)})",
            "install them with: pip install 'finetune-operator[operator,trainer,cli]'",
        )
