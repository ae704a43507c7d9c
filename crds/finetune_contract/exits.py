"""Exit codes and failure classes: what the end of a process means, and what to do about it.

One table for worker, agent, operator and CLI. Must not decide anything: plan/failure does.
"""

from enum import IntEnum, StrEnum


class WorkerExit(IntEnum):
    """Exit codes of a worker process."""

    DONE = 0
    STOPPED = 3
    USER_ERROR = 10
    OUT_OF_MEMORY = 11
    NUMERIC = 12
    PEER_LOST = 13
    STORAGE = 14
    HANG = 15


class CommandExit(IntEnum):
    """Exit codes of the `finetune` command."""

    DONE = 0
    FAILED = 1
    INVALID = 2
    STOPPED = 3


class FailureClass(StrEnum):
    """What kind of failure it was; decides between ending the job and trying again."""

    USER = "User"
    OUT_OF_MEMORY = "OutOfMemory"
    NUMERIC = "Numeric"
    PEER_LOST = "PeerLost"
    STORAGE = "Storage"
    HANG = "Hang"
    CODE = "Code"
    INFRASTRUCTURE = "Infrastructure"


def classify_exit(code: int) -> FailureClass | None:
    """Failure class of a worker's exit code (negative: ended by that signal); None where nothing failed."""
    table = {
        WorkerExit.DONE: None,
        WorkerExit.STOPPED: None,
        WorkerExit.USER_ERROR: FailureClass.USER,
        WorkerExit.OUT_OF_MEMORY: FailureClass.OUT_OF_MEMORY,
        WorkerExit.NUMERIC: FailureClass.NUMERIC,
        WorkerExit.PEER_LOST: FailureClass.PEER_LOST,
        WorkerExit.STORAGE: FailureClass.STORAGE,
        WorkerExit.HANG: FailureClass.HANG,
    }
    return table.get(WorkerExit(code)) if code in set(WorkerExit) else FailureClass.CODE
