"""Which worker failed first, and why. Pure: ends of workers in, one Failure out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from finetune_contract.exits import FailureClass, WorkerExit, classify_exit
from finetune_contract.names import Reason
from finetune_contract.progress import Failure
from finetune_contract.run import Resolved
from finetune_trainer.marks import Mark
from finetune_trainer.shortage import explain_shortage

_EXPLANATIONS: Final = {
    FailureClass.USER: (Reason.USER_ERROR, "a setting or the data cannot be used; its last lines say which"),
    FailureClass.OUT_OF_MEMORY: (
        Reason.OUT_OF_MEMORY,
        "memory did not suffice; raise resources.memory or lower training.microBatchSize",
    ),
    FailureClass.NUMERIC: (
        Reason.NUMERIC_ERROR,
        "nothing can be learnt from a step; lower training.learningRate or look at the data",
    ),
    FailureClass.PEER_LOST: (Reason.POD_LOST, "another rank is gone"),
    FailureClass.STORAGE: (Reason.STORAGE_ERROR, "the storage failed; its last lines say how"),
    FailureClass.HANG: (Reason.HANG, "no step was made any more"),
    FailureClass.CODE: (Reason.CODE_CRASH, "its last lines say where"),
    FailureClass.INFRASTRUCTURE: (Reason.POD_LOST, "the node failed"),
}


@dataclass(frozen=True)
class WorkerEnd:
    """How one worker ended."""

    rank: int
    exit_code: int
    """Negative: ended by that signal."""
    at: float
    """When, seconds since 1970."""
    failure: Failure | None = None
    """What it said itself."""
    last_lines: tuple[str, ...] = ()
    ended_by_agent: bool = False
    """The agent ended it because another had failed, or because it did not stop."""
    memory_killed: bool = False
    """The kernel has killed a process of this pod for memory since the worker began."""
    mark: Mark | None = None
    """What it was doing."""
    resolved: Resolved | None = None
    """With how many rows at a time."""


def find_first_failure(ends: Sequence[WorkerEnd], node: int) -> Failure | None:
    """The earliest failure that is not merely another's consequence; None when no worker failed."""
    failures = [describe_failure(end, node) for end in ends if has_failed(end)]
    causes = [failure for failure in failures if not failure.secondary]
    return min(causes or failures, key=lambda failure: failure.at, default=None)


def describe_failure(end: WorkerEnd, node: int) -> Failure:
    """One worker's failure: in its own words where it had any, else by its exit code."""
    place = {"phase": end.mark.stage, "step": end.mark.step} if end.mark else {}
    if end.failure is not None:
        known = {"node": node, "rank": end.rank, "exit_code": end.exit_code, "last_lines": end.last_lines, **place}
        missing = {name: value for name, value in known.items() if getattr(end.failure, name) in (None, ())}
        secondary = end.failure.secondary or end.failure.failure_class == FailureClass.PEER_LOST
        return end.failure.model_copy(update={**missing, "secondary": secondary})
    failure_class = _classify(end)
    reason, explanation = _EXPLANATIONS[failure_class]
    if end.exit_code == -9 and failure_class == FailureClass.CODE:
        explanation = "it was killed from outside; the node's kernel log says by whom"
    if failure_class == FailureClass.OUT_OF_MEMORY and end.mark and end.resolved:
        explanation = f"memory did not suffice {explain_shortage(end.mark.stage, end.resolved)}"
    if _left_early(end):
        explanation = "its work was not done: some code in it calls exit"
    ended = f"was ended by signal {-end.exit_code}" if end.exit_code < 0 else f"ended with exit code {end.exit_code}"
    return Failure(
        failure_class=failure_class,
        reason=reason,
        message=f"worker {end.rank} on node {node} {ended}: {explanation}",
        node=node,
        rank=end.rank,
        exit_code=end.exit_code,
        last_lines=end.last_lines,
        secondary=failure_class == FailureClass.PEER_LOST,
        at=end.at,
    ).model_copy(update=place)


def has_failed(end: WorkerEnd) -> bool:
    """It ended by itself in another way than by its work being done or stopped."""
    if end.failure is not None or end.ended_by_agent:
        return end.failure is not None
    return _left_early(end) or end.exit_code not in {WorkerExit.DONE, WorkerExit.STOPPED}


def _left_early(end: WorkerEnd) -> bool:
    """It says that it is done, and was still before the last part of its work: somebody's code has called exit."""
    return end.exit_code == WorkerExit.DONE and end.mark is not None and end.mark.stage != "finalizing"


def _classify(end: WorkerEnd) -> FailureClass:
    # 255: the forkserver, which knows the exit code, was killed itself.
    if end.exit_code in {-9, 255} and end.memory_killed:
        return FailureClass.OUT_OF_MEMORY
    return classify_exit(end.exit_code) or FailureClass.CODE
