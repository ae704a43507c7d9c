"""Plays the operator's part for one attempt on this machine: follows the agent, passes on a stop, hears the end.

The agent's answers are the only source of truth; what the end means is verdict.py's.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Final

from finetune_cli.agent_process import AgentProcess
from finetune_cli.display import Display
from finetune_cli.output import talk
from finetune_cli.run_folder import RunFolder
from finetune_cli.stop_request import StopRequest
from finetune_contract import names
from finetune_contract.attempt import Attempt
from finetune_contract.attempt import StopRequest as StopAnnotation
from finetune_contract.progress import Progress
from finetune_contract.spec.lifecycle import LifecycleSpec

POLL_SECONDS: Final = 0.25
FINISH_SECONDS: Final = 30.0
"""An agent that has been told to finish exits at once; one that does not is killed after this."""


@dataclass(frozen=True)
class AttemptEnd:
    """How an attempt ended, as far as it can be seen from outside."""

    progress: Progress | None
    """The agent's last answer; None when it never answered."""
    exit_code: int | None = None
    """Exit code of an agent that ended by itself; None where it was told to finish."""
    killed: bool = False
    """The user insisted, or the checkpoint took longer than lifecycle.stopGraceSeconds after the deadline."""
    overdue: bool = False
    """It was stopped because of lifecycle.activeDeadlineSeconds."""


def follow_attempt(
    agent: AgentProcess, folder: RunFolder, display: Display, stop: StopRequest, limits: LifecycleSpec
) -> AttemptEnd:
    """Follow the agent to its news, tell it to finish, and return its last answer."""
    last: Progress | None = None
    began, told = time.monotonic(), False
    while True:
        late = _seconds_late(limits, time.monotonic() - began)
        overdue = late >= 0 and not stop.wanted
        if stop.insisted or (overdue and late > limits.stop_grace_seconds):
            agent.kill()
            return AttemptEnd(last, killed=True, overdue=overdue)
        if (stop.wanted or overdue) and not told:
            _ask_to_stop(folder, overdue)
            told = True
        exit_code = agent.exit_code()
        last = agent.ask() or last
        if last is not None:
            display.show(last)
            if has_ended(last):
                finish_agent(agent, folder)
                return AttemptEnd(last, overdue=overdue)
        if exit_code is not None:
            return AttemptEnd(last, exit_code=exit_code)
        time.sleep(POLL_SECONDS)


def _seconds_late(limits: LifecycleSpec, seconds: float) -> float:
    """Seconds since the deadline; negative before it, and always where there is none."""
    deadline = limits.active_deadline_seconds
    return seconds - deadline if deadline is not None else -math.inf


def _ask_to_stop(folder: RunFolder, overdue: bool) -> None:
    attempt = Attempt.from_json((folder.annotations / names.FILE_ATTEMPT).read_bytes())
    reason = names.Reason.DEADLINE_EXCEEDED if overdue else "StoppedByUser"
    folder.annotate(names.FILE_STOP, StopAnnotation(attempt=attempt.number, reason=reason).to_json())
    talk().print("stopping with a checkpoint; another Ctrl-C ends at once and loses it")


def has_ended(progress: Progress) -> bool:
    """The agent has nothing more to do: an outcome, a failure, or the stop that was asked for."""
    return progress.outcome is not None or (progress.news and progress.phase in ("Finished", "Failed", "Stopped"))


def finish_agent(agent: AgentProcess, folder: RunFolder) -> None:
    """Tell the agent that its news has been heard, and see that it ends."""
    folder.annotate(names.FILE_FINISH, "Finished")
    if not agent.wait(FINISH_SECONDS):
        agent.kill()
