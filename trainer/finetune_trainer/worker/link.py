"""The worker's end of its connection with the agent: messages out, the request to stop in."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from multiprocessing.connection import Connection

from finetune_contract.exits import WorkerExit
from finetune_trainer.marks import Marker
from finetune_trainer.messages import (
    AgentEnvelope,
    Envelope,
    FetchCheckpoint,
    Fetched,
    Heartbeat,
    Released,
    Stop,
    WorkerMessage,
    WorkerPhase,
)

HEARTBEAT_SECONDS = 0.2
"""Signs of life within one phase and this time are one."""


class AgentLink:
    """Sends messages; a thread listens for the agent's request to stop."""

    def __init__(self, connection: Connection, rank: int, marker: Marker | None = None) -> None:
        self.rank = rank
        self.marker = marker or Marker()
        self._connection = connection
        self._stop = threading.Event()
        self._fetched: queue.SimpleQueue[Fetched] = queue.SimpleQueue()
        self._released: queue.SimpleQueue[Released] = queue.SimpleQueue()
        self._last: tuple[WorkerPhase, float] = ("starting", 0.0)
        threading.Thread(target=self._listen, name="agent-link", daemon=True).start()

    @property
    def stop_requested(self) -> bool:
        """Whether the agent has asked this rank to stop."""
        return self._stop.is_set()

    def send(self, message: WorkerMessage) -> None:
        """Send one message as JSON."""
        self._connection.send_bytes(Envelope(message=message).model_dump_json(by_alias=True).encode())

    def beat(self, phase: WorkerPhase, step: int) -> None:
        """A sign of life: a mark each time, a message at most once in `HEARTBEAT_SECONDS` while the phase stays."""
        self.marker.enter("waiting" if phase == "training" else phase, step)
        now = time.monotonic()
        if self._last[0] == phase and now - self._last[1] < HEARTBEAT_SECONDS:
            return
        self._last = (phase, now)
        self.send(Heartbeat(rank=self.rank, phase=phase, step=step, at=time.time()))

    def fetch(self, name: str, world_size: int) -> Fetched:
        """Ask the agent for a checkpoint and wait until it is here, or cannot be brought."""
        self.send(FetchCheckpoint(name=name, world_size=world_size))
        while True:
            self.beat("starting", 0)
            with contextlib.suppress(queue.Empty):
                if (fetched := self._fetched.get(timeout=1.0)).name == name:
                    return fetched

    def take_released(self) -> list[Released]:
        """What the agent has released since the last time."""
        return [self._released.get() for _ in range(self._released.qsize())]

    def _take(self, message: Stop | Released | Fetched) -> None:
        if isinstance(message, Stop):
            self._stop.set()
        elif isinstance(message, Fetched):
            self._fetched.put(message)
        else:
            self._released.put(message)

    def _listen(self) -> None:
        try:
            while True:
                self._take(AgentEnvelope.from_json(self._connection.recv_bytes()).message)
        except (EOFError, OSError):
            # Without its agent a worker has nobody who saves what it makes.
            os._exit(WorkerExit.PEER_LOST)
