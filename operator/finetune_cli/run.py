"""`finetune run`: a job on this machine, from the same YAML and with the operator's own plan.

Reads as the story; the parts stand in files of their own.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from finetune_cli.agent_process import ADDRESS, find_free_port, start_agent
from finetune_cli.display import open_display
from finetune_cli.earlier_runs import (
    EarlierRuns,
    delete_earlier_runs,
    find_changes,
    plan_attempt,
    read_earlier_runs,
    record_run,
)
from finetune_cli.errors import InvalidError, RunError
from finetune_cli.gpus import count_gpus
from finetune_cli.job_file import read_one_job
from finetune_cli.local_job import Machine, localize, parse_claims
from finetune_cli.local_run import AttemptEnd, follow_attempt
from finetune_cli.output import OutputFormat, print_json, talk
from finetune_cli.run_folder import RunFolder, lock_run
from finetune_cli.stop_request import hear_signals
from finetune_cli.verdict import (
    Verdict,
    judge_deadline,
    judge_failure,
    judge_kill,
    judge_lost_agent,
    judge_outcome,
    judge_stop,
    print_verdict,
)
from finetune_contract import names
from finetune_contract.exits import CommandExit
from finetune_contract.run import RunConfig

if TYPE_CHECKING:
    from finetune_trainer.store.store import Store

_NEEDED: Final = ("torch", "transformers", "deepspeed", "obstore", "aiohttp")
_LAST_LINES: Final = 20


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
            verdict = _run_attempt(run, store, earlier, folder, lock)
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


def _run_attempt(run: RunConfig, store: Store, earlier: EarlierRuns, folder: RunFolder, lock: int) -> Verdict:
    record_run(store, run)
    attempt = plan_attempt(earlier, ADDRESS, find_free_port())
    folder.reset()
    folder.run_file.write_text(run.to_json(indent=2))
    folder.annotate(names.FILE_ATTEMPT, attempt.to_json())
    _announce(run, earlier, folder)
    with hear_signals() as stop:
        agent = start_agent(folder, lock)
        display = open_display()
        try:
            end = follow_attempt(agent, folder, display, stop, run.spec.lifecycle)
        except BaseException:
            agent.kill()
            raise
        finally:
            display.close()
    return _judge(run, store, end, folder)


def _judge(run: RunConfig, store: Store, end: AttemptEnd, folder: RunFolder) -> Verdict:
    outcome = end.progress.outcome if end.progress else None
    if outcome is not None:
        return judge_outcome(run.job.name, outcome)
    saved = read_earlier_runs(store)
    if saved.outcome is not None:
        return judge_outcome(run.job.name, saved.outcome)
    return _judge_unfinished(run, end, folder, saved.newest_step)


def _judge_unfinished(run: RunConfig, end: AttemptEnd, folder: RunFolder, step: int) -> Verdict:
    job, failure = run.job.name, end.progress.failure if end.progress else None
    if end.overdue:
        return judge_deadline(job, run.spec.lifecycle.active_deadline_seconds or 0, step)
    if end.killed:
        return judge_kill(job, step)
    if end.exit_code is not None:
        return judge_lost_agent(job, end.exit_code, _read_last_lines(folder.log), step)
    return judge_failure(job, failure, step) if failure is not None else judge_stop(job, step)


def _announce(run: RunConfig, earlier: EarlierRuns, folder: RunFolder) -> None:
    resolved = run.resolved
    where = f"{resolved.world_size} {'process' if resolved.world_size == 1 else 'processes'} on {resolved.device}"
    talk().print(
        f"{run.job.name}: {run.spec.task} by {run.spec.strategy.method} with {where}; results in {run.job_uri}",
        markup=False,
    )
    if earlier.newest_step:
        talk().print(f"resumes from step {earlier.newest_step:,} (attempt {earlier.attempt + 1})")
    talk().print(f"log: {folder.log}; Ctrl-C stops with a checkpoint", markup=False)


def _read_last_lines(log: Path) -> tuple[str, ...]:
    try:
        with log.open(encoding="utf-8", errors="replace") as lines:
            return tuple(line.rstrip()[:4000] for line in deque(lines, maxlen=_LAST_LINES))
    except OSError:
        return ()


def _check_installed() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise RunError(
            f"the trainer's packages are not installed here (missing: {', '.join(missing)})",
            "install them with: pip install 'finetune-operator[operator,trainer,cli]'",
        )
