"""What every worker of a node is doing right now: one small file, a record a local rank, that the agent looks at.

A worker writes its record into mapped memory, without a system call and in a fraction of a microsecond, so that it may
do so many times a step; the kernel keeps the last one of a worker that hangs. Both sides meet here, so there is no
torch and no judgement: what is too long is said by agent/watch.py.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

Stage = Literal[
    "starting",  # joining, loading, resuming
    "data",  # waiting for the step's rows
    "forward",
    "backward",  # with the reductions of gradients that DeepSpeed starts within it
    "update",  # the optimizer, and the collectives around it
    "waiting",  # for the other ranks, between two steps
    "evaluating",
    "saving",
    "finalizing",
    "stopping",
]
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)

# The time comes first: a record that is read half written looks too young, never too old.
_RECORD: Final = struct.Struct("@qqqqq")


@dataclass(frozen=True)
class Mark:
    """One worker's record."""

    at: float
    """Seconds of this machine's monotonic clock since which it has been there."""
    stage: Stage
    step: int
    """Optimizer step that it works on."""
    steps_done: int = 0
    """Optimizer steps that it has done in this attempt."""
    step_seconds: float = 0.0
    """Median seconds of its last steps; 0 while unknown."""


class Marker:
    """A worker's pen."""

    def __init__(self, path: str = "", local_rank: int = 0) -> None:
        """Open this rank's record; without a path nobody reads it."""
        self._offset = local_rank * _RECORD.size
        self._memory = _map_file(path, self._offset + _RECORD.size) if path else mmap.mmap(-1, mmap.PAGESIZE)
        self._offset = self._offset if path else 0
        self._stage = STAGES.index("starting")
        self._step = self._steps_done = self._step_nanoseconds = 0

    @property
    def stage(self) -> Stage:
        """Where the worker is."""
        return STAGES[self._stage]

    @property
    def step(self) -> int:
        """Optimizer step that it works on."""
        return self._step

    def enter(self, stage: Stage, step: int | None = None) -> None:
        """From now on the worker is there; without a step, in the same one as before."""
        self._stage = STAGES.index(stage)
        if step is not None:
            self._step = step
        self._write()

    def finish_step(self, step_seconds: float | None) -> None:
        """A step is done; the median of the last ones is so many seconds."""
        self._steps_done += 1
        self._step_nanoseconds = int((step_seconds or 0.0) * 1e9)
        self._write()

    def _write(self) -> None:
        record = (time.monotonic_ns(), self._stage, self._step, self._steps_done, self._step_nanoseconds)
        _RECORD.pack_into(self._memory, self._offset, *record)


def read_marks(path: Path, count: int) -> tuple[Mark | None, ...]:
    """The records of the first `count` local ranks; None where a worker has not begun."""
    try:
        data = path.read_bytes()
    except OSError:
        data = b""
    return tuple(_read_mark(data, local_rank * _RECORD.size) for local_rank in range(count))


def _read_mark(data: bytes, offset: int) -> Mark | None:
    if len(data) < offset + _RECORD.size:
        return None
    at, stage, step, steps_done, step_nanoseconds = _RECORD.unpack_from(data, offset)
    if at == 0:
        return None
    return Mark(at / 1e9, STAGES[stage], step, steps_done, step_nanoseconds / 1e9)


def _map_file(path: str, size: int) -> mmap.mmap:
    """The file in memory, made longer where it is too short; the ranks open it at the same time."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        # Growing it by the last byte, never by truncation, takes nothing away from a rank that was here before.
        if os.fstat(handle).st_size < size:
            os.pwrite(handle, b"\0", size - 1)
        return mmap.mmap(handle, size)
    finally:
        os.close(handle)
