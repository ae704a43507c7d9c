"""Plays the operator's part for one attempt on this machine: follows the agent, passes on a stop, hears the end.

The agent's answers are the only source of truth; what the end means is verdict.py's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from finetune_cli.agent_process import AgentProcess
from finetune_cli.display import Display
from finetune_cli.output import talk
from finetune_cli.run_folder import RunFolder
from finetune_cli.stop_request import StopRequest
from finetune_contract import names
from finetune_contract.progress import Progress

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
    """The user insisted."""


def follow_attempt(agent: AgentProcess, folder: RunFolder, display: Display, stop: StopRequest) -> AttemptEnd:
    """Follow the agent to its news, tell it to finish, and return its last answer."""
    last: Progress | None = None
    told = False
    while True:
        if stop.insisted:
            agent.kill()
            return AttemptEnd(last, killed=True)
        if stop.wanted and not told:
            folder.annotate(names.FILE_STOP, "Stopped by the user")
            talk().print("stopping with a checkpoint; a second Ctrl-C ends at once and loses it")
            told = True
        exit_code = agent.exit_code()
        last = agent.ask() or last
        if last is not None:
            display.show(last)
            if has_ended(last):
                finish_agent(agent, folder)
                return AttemptEnd(last)
        if exit_code is not None:
            return AttemptEnd(last, exit_code=exit_code)
        time.sleep(POLL_SECONDS)


def has_ended(progress: Progress) -> bool:
    """The agent has nothing more to do: an outcome, a failure, or the stop that was asked for."""
    return progress.outcome is not None or (progress.news and progress.phase in ("Finished", "Failed", "Stopped"))


def finish_agent(agent: AgentProcess, folder: RunFolder) -> None:
    """Tell the agent that its news has been heard, and see that it ends."""
    folder.annotate(names.FILE_FINISH, "Finished")
    if not agent.wait(FINISH_SECONDS):
        agent.kill()
