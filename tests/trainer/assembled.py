"""A worker's run put together in this process, which is of no use afterwards: DeepSpeed is set up once a process."""

from __future__ import annotations

import os
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from finetune_trainer.messages import WorkerTask

if TYPE_CHECKING:
    from finetune_trainer.worker.train import Run


def assemble_alone(task: WorkerTask) -> Run:
    """The run of a task whose agent listens and says nothing."""
    from finetune_trainer.worker.assemble import assemble
    from finetune_trainer.worker.link import AgentLink
    from finetune_trainer.worker.ranks import join

    Path(task.attempt_dir).mkdir(parents=True, exist_ok=True)
    near, far = Pipe()
    Thread(target=_drain, args=(near,), daemon=True).start()
    return assemble(task, join(task), AgentLink(far, 0))


def leave(connection: Connection, answer: object) -> None:
    """End this process with an answer, without tearing down what DeepSpeed has set up."""
    connection.send(answer)
    os._exit(0)


def _drain(connection: Connection) -> None:
    while True:
        connection.recv_bytes()
