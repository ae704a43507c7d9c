"""Which worker has hung, and whether it is the cause or waits for another. Pure: marks, stacks and a clock in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from finetune_contract.exits import FailureClass, WorkerExit
from finetune_contract.names import Reason
from finetune_contract.progress import Failure
from finetune_contract.spec.lifecycle import TimeoutsSpec
from finetune_trainer.marks import Mark, Stage

STEP_FACTOR: Final = 10.0
"""Medians of a step after which one counts as hung; TimeoutsSpec.step_seconds says so to users."""
SHORTEST_STEP_SECONDS: Final = 60.0
MOST_LINES: Final = 50
"""Lines of a stack that a failure holds."""

_COLLECTIVE_FILES: Final = (
    "/torch/distributed/",
    "/deepspeed/comm/",
    "/finetune_trainer/worker/votes.py",
)
_WAITING_FILES: Final = ("/deepspeed/", "/torch/")
_COLLECTIVE_STAGES: Final[frozenset[Stage]] = frozenset({"backward", "update", "waiting"})
_INNERMOST: Final = 8
"""Frames of a stack that say where a worker is."""


@dataclass(frozen=True)
class Budget:
    """How long a worker may stay where it is."""

    seconds: float
    field: str
    """What the user can raise."""


@dataclass(frozen=True)
class Suspect:
    """A worker that has been in one place for long."""

    rank: int
    mark: Mark
    seconds: float
    """How long."""
    budget: Budget


@dataclass(frozen=True)
class Sight:
    """What was seen of a suspect's process."""

    stack: tuple[str, ...] = ()
    """Its Python stack, innermost frame first; empty where it gave none."""
    state: str = ""
    """State of its process, as Linux names it: R, S, D, T; empty where unknown."""


def find_budget(mark: Mark, timeouts: TimeoutsSpec) -> Budget:
    """The time that is allowed where a worker is."""
    match mark.stage:
        case "starting":
            return Budget(timeouts.start_seconds, "startSeconds")
        case "evaluating":
            return Budget(timeouts.evaluation_seconds, "evaluationSeconds")
        case "saving" | "finalizing" | "stopping":
            return Budget(timeouts.save_seconds, "saveSeconds")
        case _:
            return _find_step_budget(mark, timeouts)


def _find_step_budget(mark: Mark, timeouts: TimeoutsSpec) -> Budget:
    if mark.steps_done > 0 and timeouts.step_seconds is not None:
        return Budget(timeouts.step_seconds, "stepSeconds")
    if mark.steps_done > 0 and mark.step_seconds > 0.0:
        return Budget(max(SHORTEST_STEP_SECONDS, STEP_FACTOR * mark.step_seconds), "stepSeconds")
    return Budget(timeouts.first_step_seconds, "firstStepSeconds")


def find_suspects(marks: Mapping[int, Mark], timeouts: TimeoutsSpec, now: float, since: float) -> tuple[Suspect, ...]:
    """Nobody, unless a worker's time is up: then it and the others that may be the cause, the likeliest first.

    `marks` by rank; `since`: nothing before that moment is held against a worker, because the agent did not run either.
    A rank that entered its place a moment later than one that waits for it has half its time behind it as well.
    """
    looked = [_look(rank, mark, timeouts, now - max(mark.at, since)) for rank, mark in marks.items()]
    if not any(suspect.seconds > suspect.budget.seconds for suspect in looked):
        return ()
    silent = [suspect for suspect in looked if suspect.seconds > suspect.budget.seconds / 2]
    return tuple(sorted(silent, key=_order))


def _look(rank: int, mark: Mark, timeouts: TimeoutsSpec, seconds: float) -> Suspect:
    return Suspect(rank, mark, seconds, find_budget(mark, timeouts))


def _order(suspect: Suspect) -> tuple[bool, int, float]:
    return suspect.mark.stage in _COLLECTIVE_STAGES, suspect.mark.step, suspect.mark.at


def choose_cause(suspects: Sequence[Suspect], sights: Mapping[int, Sight]) -> tuple[Suspect, bool]:
    """The suspect that the others wait for, and whether it waits itself: then the cause is on another node."""
    for suspect in suspects:
        if not is_waiting(suspect.mark.stage, sights[suspect.rank]):
            return suspect, False
    return suspects[0], True


def is_waiting(stage: Stage, sight: Sight) -> bool:
    """Whether a worker sits in a collective, where it waits for other ranks. One that gives no stack does not."""
    frames = [line for line in sight.stack if line.lstrip().startswith("File ")][:_INNERMOST]
    if not frames:
        return False
    if any(file in frame for frame in frames for file in _COLLECTIVE_FILES):
        return True
    # Waiting for a handle happens in C++, below frames of these libraries.
    return stage in _COLLECTIVE_STAGES and any(file in frames[0] for file in _WAITING_FILES)


def describe_hang(suspect: Suspect, sight: Sight, *, node: int, waits: bool, alone: bool, at: float) -> Failure:
    """The failure that the agent tells at `at`. `alone`: no other node takes part that could be the cause."""
    mark, budget = suspect.mark, suspect.budget
    where = "waits for other ranks in" if waits else "has hung in"
    field = f"failurePolicy.timeouts.{budget.field}"
    message = (
        f"rank {suspect.rank} on node {node} {where} {mark.stage} of step {mark.step}: no sign of life for "
        f"{suspect.seconds:.0f} s, and {budget.seconds:.0f} s are allowed; {_describe_process(sight)}. If it was only "
        f"slow, raise spec.{field}"
    )
    return Failure(
        failure_class=FailureClass.HANG,
        reason=Reason.HANG,
        message=message,
        node=node,
        rank=suspect.rank,
        exit_code=int(WorkerExit.HANG),
        last_lines=sight.stack[:MOST_LINES],
        phase=mark.stage,
        step=mark.step,
        secondary=waits and not alone,
        at=at,
    )


def _describe_process(sight: Sight) -> str:
    if sight.stack:
        return "its Python stack stands in lastLines"
    states = {
        "T": "its process is stopped (SIGSTOP, or a debugger) and gives no stack",
        "D": "its process waits in the kernel, for a disk or a driver, and gives no stack",
    }
    return states.get(sight.state, "it gives no stack")


def parse_stack(text: str) -> tuple[str, ...]:
    """Lines of faulthandler's output, the main thread's first. Each thread's innermost frame comes first."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block.strip()]
    blocks.sort(key=lambda block: not block[0].startswith("Current thread"))
    return tuple(line.strip() for block in blocks for line in block if line.strip())
