"""The workers of one attempt on this node: their messages, their output, their ends.

Reads from the event loop; a worker's pipes have nobody else. Decides nothing about the attempt (verdict.py does).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_contract.progress import Failure
from finetune_trainer.agent.cgroup import count_oom_kills
from finetune_trainer.agent.child_log import ChildLog
from finetune_trainer.agent.launcher import Launched, Launcher
from finetune_trainer.agent.stacks import stack_file
from finetune_trainer.agent.verdict import WorkerEnd, has_failed
from finetune_trainer.marks import Mark, read_marks
from finetune_trainer.messages import (
    AgentEnvelope,
    Envelope,
    Failed,
    Fetched,
    Released,
    Stop,
    WorkerMessage,
    WorkerTask,
)

logger = logging.getLogger(__name__)

TERM_SECONDS = 5.0
"""Between SIGTERM and SIGKILL."""
READ_BYTES = 65_536


@dataclass
class _Worker:
    task: WorkerTask
    launched: Launched
    log: ChildLog
    oom_kills: int
    end: asyncio.Future[WorkerEnd]
    failure: Failure | None = None
    ended_by_agent: bool = field(default=False)

    @property
    def rank(self) -> int:
        return self.task.rank

    def read_mark(self) -> Mark | None:
        """What it is doing, or was doing when it ended."""
        marks = read_marks(Path(self.task.marks_file), self.task.local_rank + 1)
        return marks[self.task.local_rank]


class Workers:
    """Started one by one, watched together."""

    def __init__(self, launcher: Launcher, receive: Callable[[WorkerMessage], None]) -> None:
        self._launcher = launcher
        self._receive = receive
        self._workers: list[_Worker] = []
        self._troubled = asyncio.Event()

    async def start(self, tasks: Sequence[WorkerTask], log_of: Callable[[int], ChildLog]) -> None:
        """Fork one worker a task. Raises FineTuneError when one cannot be started."""
        for task in tasks:
            Path(task.marks_file).unlink(missing_ok=True)
        for task in tasks:
            stack = str(stack_file(Path(task.attempt_dir), task.rank))
            starting = asyncio.ensure_future(self._launcher.launch(task.to_json(), task.rank, stack))
            try:
                launched = await asyncio.shield(starting)
            except asyncio.CancelledError:
                # The thread goes on: the worker must be known, so that it can be ended.
                self._watch(task, await starting, log_of(task.rank))
                raise
            self._watch(task, launched, log_of(task.rank))

    async def wait(self, patience: float) -> tuple[WorkerEnd, ...]:
        """Wait until all have ended. Once one has failed the others get `patience` seconds, then they are ended."""
        ends = [worker.end for worker in self._workers]
        trouble = asyncio.ensure_future(self._troubled.wait())
        try:
            while (pending := [end for end in ends if not end.done()]) and not trouble.done():
                watched: list[asyncio.Future[Any]] = [*pending, trouble]
                await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if pending:
                await asyncio.wait(pending, timeout=patience)
                await self.terminate()
            return tuple(end.result() for end in ends)
        finally:
            trouble.cancel()

    def stop(self) -> None:
        """Ask every worker for a checkpoint and its end."""
        self.send(Stop())

    def send(self, message: Stop | Released | Fetched) -> None:
        """Say something to every worker that still listens."""
        data = AgentEnvelope(message=message).to_json().encode()
        for worker in self._workers:
            with contextlib.suppress(OSError):
                worker.launched.connection.send_bytes(data)

    async def terminate(self) -> None:
        """End every worker and what it has started: SIGTERM, then SIGKILL. Returns when they are gone."""
        alive = self._alive
        for worker in alive:
            worker.ended_by_agent = True
            _send_signal(worker, signal.SIGTERM)
        if alive:
            await asyncio.wait([worker.end for worker in alive], timeout=TERM_SECONDS)
        for worker in alive:
            if not worker.end.done():
                _send_signal(worker, signal.SIGKILL)
        if alive:
            await asyncio.wait([worker.end for worker in alive])

    async def kill(self) -> None:
        """End every worker at once: one that has hung would not hear of SIGTERM."""
        alive = self._alive
        for worker in alive:
            worker.ended_by_agent = True
            _send_signal(worker, signal.SIGKILL)
        if alive:
            await asyncio.wait([worker.end for worker in alive])

    @property
    def pids(self) -> dict[int, int]:
        """Rank -> process id of the workers that have not ended."""
        pids = {worker.rank: worker.launched.process.pid for worker in self._alive}
        return {rank: pid for rank, pid in pids.items() if pid is not None}

    def read_marks(self, since: float) -> dict[int, Mark]:
        """Rank -> what it is doing, of the workers that have not ended; one that has not begun starts since then."""
        return {worker.rank: worker.read_mark() or Mark(since, "starting", 0) for worker in self._alive}

    @property
    def _alive(self) -> list[_Worker]:
        return [worker for worker in self._workers if not worker.end.done()]

    def _watch(self, task: WorkerTask, launched: Launched, log: ChildLog) -> None:
        loop = asyncio.get_running_loop()
        worker = _Worker(task, launched, log, count_oom_kills(), loop.create_future())
        self._workers.append(worker)
        os.set_blocking(launched.output.fileno(), False)
        loop.add_reader(launched.output.fileno(), self._read_output, worker)
        loop.add_reader(launched.connection.fileno(), self._read_messages, worker)
        loop.add_reader(launched.process.sentinel, self._close, worker)

    def _read_output(self, worker: _Worker) -> bool:
        """Read what is there; False at the end of the output."""
        try:
            data = os.read(worker.launched.output.fileno(), READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            worker.log.feed(data)
        else:
            asyncio.get_running_loop().remove_reader(worker.launched.output.fileno())
        return bool(data)

    def _read_messages(self, worker: _Worker) -> None:
        try:
            while worker.launched.connection.poll():
                self._take(worker, worker.launched.connection.recv_bytes())
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(worker.launched.connection.fileno())

    def _take(self, worker: _Worker, data: bytes) -> None:
        try:
            message = Envelope.from_json(data).message
        except ValueError as error:
            logger.error("worker %d sent something that is no message: %s", worker.rank, error)
            return
        if isinstance(message, Failed):
            worker.failure = worker.failure or message.failure
            self._troubled.set()
        self._receive(message)

    def _close(self, worker: _Worker) -> None:
        """The process has ended: take what is left in its pipes, then its exit code."""
        loop, launched = asyncio.get_running_loop(), worker.launched
        loop.remove_reader(launched.process.sentinel)
        self._read_messages(worker)
        while self._read_output(worker):
            pass
        loop.remove_reader(launched.connection.fileno())
        loop.remove_reader(launched.output.fileno())
        launched.connection.close()
        launched.output.close()
        worker.log.close()
        launched.process.join()
        _send_signal(worker, signal.SIGKILL)  # what it has started goes with it
        worker.end.set_result(self._describe(worker))
        if has_failed(worker.end.result()):
            self._troubled.set()

    @staticmethod
    def _describe(worker: _Worker) -> WorkerEnd:
        code = worker.launched.process.exitcode
        return WorkerEnd(
            rank=worker.rank,
            exit_code=1 if code is None else code,
            at=time.time(),
            failure=worker.failure,
            last_lines=worker.log.last_lines,
            ended_by_agent=worker.ended_by_agent,
            memory_killed=count_oom_kills() > worker.oom_kills,
            mark=worker.read_mark(),
            resolved=worker.task.run.resolved,
        )


def _send_signal(worker: _Worker, number: signal.Signals) -> None:
    """To the worker's whole group; where it has not made one yet, to itself."""
    pid = worker.launched.process.pid
    if pid is None:
        return
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        if worker.launched.process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
