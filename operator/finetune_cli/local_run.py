"""Plays the operator's part for one attempt on this machine: follows the agent, passes on a stop, hears the end.

The agent's answers are the only source of truth; what the end means is verdict.py's, what follows restarts.py's.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Final

from finetune_cli.agent_process import AgentProcess
from finetune_cli.display import Display
from finetune_cli.local_attempts import describe_resume, note
from finetune_cli.output import talk
from finetune_cli.run_folder import RunFolder
from finetune_cli.stop_signals import StopSignals
from finetune_contract import names
from finetune_contract.attempt import StopRequest
from finetune_contract.progress import AgentPhase, Failure, Progress
from finetune_contract.run import RunConfig
from finetune_contract.status import FineTuneJobStatus

POLL_SECONDS: Final = 0.25
FINISH_SECONDS: Final = 30.0
"""An agent that has been told to finish exits at once; one that does not is killed after this."""
_BEFORE_TRAINING: Final[tuple[AgentPhase, ...]] = ("Idle", "Preparing", "Starting")


@dataclass
class LocalRun:
    """A run under way on this machine; `status` is replaced as it goes on."""

    run: RunConfig
    folder: RunFolder
    display: Display
    signals: StopSignals
    status: FineTuneJobStatus
    """Its attempts, as the operator would keep them."""
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds_late(self) -> float:
        """Seconds since lifecycle.activeDeadlineSeconds were over; negative before, and always where there is none."""
        deadline = self.run.spec.lifecycle.active_deadline_seconds
        return time.monotonic() - self.began - deadline if deadline is not None else -math.inf


@dataclass(frozen=True)
class LastWord:
    """How an attempt ended, as far as it can be seen from outside."""

    progress: Progress | None
    """The agent's last answer of this attempt; None when it never gave one."""
    exit_code: int | None = None
    """Exit code of an agent that ended by itself; None where it goes on."""
    killed: bool = False
    """The user insisted, or the checkpoint took longer than lifecycle.stopGraceSeconds after the deadline."""
    overdue: bool = False
    """It was stopped because of lifecycle.activeDeadlineSeconds."""

    @property
    def failure(self) -> Failure | None:
        """What the agent says went wrong."""
        return self.progress.failure if self.progress else None


def follow_attempt(local: LocalRun, agent: AgentProcess, number: int) -> LastWord:
    """Follow the agent to its news of this attempt."""
    last: Progress | None = None
    told = announced = False
    while True:
        overdue = local.seconds_late >= 0 and not local.signals.wanted
        if local.signals.insisted or (overdue and local.seconds_late > local.run.spec.lifecycle.stop_grace_seconds):
            agent.kill()
            return LastWord(last, killed=True, overdue=overdue)
        if (local.signals.wanted or overdue) and not told:
            _ask_to_stop(local.folder, number, overdue)
            told = True
        exit_code = agent.exit_code()
        heard = agent.ask()
        if heard is not None and heard.attempt == number:
            last = heard
            announced = _show(local, heard, announced)
            if has_ended(heard):
                return LastWord(heard, overdue=overdue)
        if exit_code is not None:
            return LastWord(last, exit_code=exit_code)
        time.sleep(POLL_SECONDS)


def _show(local: LocalRun, heard: Progress, announced: bool) -> bool:
    """Note and show what the agent says; whether it has been said where an attempt after the first goes on."""
    local.status = note(local.status, heard)
    local.display.show(heard)
    if announced or heard.phase in _BEFORE_TRAINING:
        return announced
    if heard.attempt > 1 and heard.failure is None:
        talk().print(describe_resume(local.status.attempts[-1]))
    return True


def _ask_to_stop(folder: RunFolder, number: int, overdue: bool) -> None:
    reason = names.Reason.DEADLINE_EXCEEDED if overdue else names.Reason.SUSPENDED
    folder.annotate(names.FILE_STOP, StopRequest(attempt=number, reason=reason).to_json())
    talk().print("stopping with a checkpoint; another Ctrl-C ends at once and loses it")


def has_ended(progress: Progress) -> bool:
    """The agent has nothing more to do: an outcome, a failure, or the stop that was asked for."""
    return progress.outcome is not None or (progress.news and progress.phase in ("Finished", "Failed", "Stopped"))


def finish_agent(agent: AgentProcess, folder: RunFolder) -> None:
    """Tell the agent that its news has been heard, and see that it ends."""
    folder.annotate(names.FILE_FINISH, "Finished")
    if not agent.wait(FINISH_SECONDS):
        agent.kill()
