"""The attempts of a local run one after another, until it has its outcome, may not go on, or is stopped.

What follows a failure is decided by the operator's plan (local_attempts.py); an agent that died is started again, as a
lost pod would be replaced.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from finetune_cli.agent_process import ADDRESS, AgentProcess, find_free_port, start_agent
from finetune_cli.earlier_runs import EarlierRuns, read_earlier_runs
from finetune_cli.local_attempts import begin, describe_attempt, describe_retry, fail, list_attempts
from finetune_cli.local_run import POLL_SECONDS, LastWord, LocalRun, finish_agent, follow_attempt
from finetune_cli.output import talk
from finetune_cli.verdict import (
    Verdict,
    describe_lost_agent,
    judge_deadline,
    judge_failure,
    judge_kill,
    judge_outcome,
    judge_stop,
)
from finetune_contract import names
from finetune_contract.names import Reason
from finetune_contract.progress import Failure, find_newest_step
from finetune_operator.plan.attempts import AttemptEnd, close_attempt
from finetune_operator.plan.failure import count_wait

if TYPE_CHECKING:
    from finetune_trainer.store.store import Store

_LAST_LINES: Final = 20


@dataclass
class Restarts:
    """What an attempt leaves to the next one."""

    local: LocalRun
    store: Store
    lock: int
    """Descriptor of the run folder's lock, which every agent inherits."""
    agent: AgentProcess | None = None


def run_attempts(restarts: Restarts) -> Verdict:
    """Run attempts until there is a verdict; no agent is left behind."""
    try:
        verdict = None
        while verdict is None:
            verdict = _judge(restarts, _run_attempt(restarts)) or _wait(restarts)
    except BaseException:
        if restarts.agent is not None:
            restarts.agent.kill()
        raise
    if restarts.agent is not None and restarts.agent.exit_code() is None:
        finish_agent(restarts.agent, restarts.local.folder)
    return replace(verdict, attempts=list_attempts(restarts.local.status))


def _run_attempt(restarts: Restarts) -> LastWord:
    local = restarts.local
    local.status = begin(local.status, local.run, time.time())
    attempt = describe_attempt(local.status, local.run, ADDRESS, find_free_port())
    local.folder.annotate(names.FILE_ATTEMPT, attempt.to_json())
    if restarts.agent is None or restarts.agent.exit_code() is not None:
        restarts.agent = start_agent(local.folder, restarts.lock)
    return follow_attempt(local, restarts.agent, attempt.number)


def _judge(restarts: Restarts, word: LastWord) -> Verdict | None:
    """The verdict after an attempt; None where the next one follows. Closes the attempt."""
    local, job = restarts.local, restarts.local.run.job.name
    saved = read_earlier_runs(restarts.store)
    outcome = (word.progress.outcome if word.progress else None) or saved.outcome
    if outcome is not None:
        _close(local, AttemptEnd("Finished", outcome.reason, last_step=outcome.step))
        return judge_outcome(job, outcome)
    failure = _find_failure(local, word)
    if failure is not None and not (word.overdue or word.killed):
        return _judge_failure(local, failure, saved)
    _close(local, AttemptEnd("Stopped", Reason.DEADLINE_EXCEEDED if word.overdue else Reason.SUSPENDED))
    if word.overdue:
        return judge_deadline(job, local.run.spec.lifecycle.active_deadline_seconds or 0, saved.newest_step)
    return judge_kill(job, saved.newest_step) if word.killed else judge_stop(job, saved.newest_step)


def _judge_failure(local: LocalRun, failure: Failure, saved: EarlierRuns) -> Verdict | None:
    local.status, end = fail(local.status, failure, saved.checkpoints, local.run, time.time())
    if end is not None or local.signals.wanted:
        message = end.message if end else failure.message
        return judge_failure(local.run.job.name, failure, saved.newest_step, message)
    talk().print(describe_retry(local.status, count_wait(local.status, time.time())), style="yellow", markup=False)
    return None


def _find_failure(local: LocalRun, word: LastWord) -> Failure | None:
    if word.exit_code is None:
        return word.failure
    return word.failure or describe_lost_agent(word.exit_code, read_last_lines(local.folder.log), time.time())


def _wait(restarts: Restarts) -> Verdict | None:
    """Back off; the verdict of a run that was stopped or became late meanwhile."""
    local, job = restarts.local, restarts.local.run.job.name
    while count_wait(local.status, time.time()) > 0:
        step = find_newest_step(local.status.checkpoints)
        if local.signals.wanted:
            return judge_stop(job, step)
        if local.seconds_late >= 0:
            return judge_deadline(job, local.run.spec.lifecycle.active_deadline_seconds or 0, step)
        time.sleep(POLL_SECONDS)
    return None


def _close(local: LocalRun, end: AttemptEnd) -> None:
    local.status = close_attempt(local.status, end, time.time())


def read_last_lines(log: Path) -> tuple[str, ...]:
    """The last lines of agent and workers; none where there is no log."""
    try:
        with log.open(encoding="utf-8", errors="replace") as lines:
            return tuple(line.rstrip()[:4000] for line in deque(lines, maxlen=_LAST_LINES))
    except OSError:
        return ()
