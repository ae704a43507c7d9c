"""What a worker process does before the worker's own code: session, output, the agent's death. Runs in the child.

Must stay importable without torch: the agent names this function to the forkserver by reference.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import select
import signal
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path


def enter(
    target: str, task_json: str, connection: Connection, output: Connection, *, agent: int, stack_file: str
) -> None:
    """Send the output to the agent and call `target`, a function's dotted path, with the task and the connection."""
    # Before anything else: a worker that has not registered it would die of the agent's question.
    faulthandler.register(signal.SIGUSR1, file=Path(stack_file).open("a"), all_threads=True)  # noqa: SIM115
    os.setsid()  # one group a worker, so that what it has started ends with it
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    output.close()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.enable()
    threading.Thread(target=_end_with_agent, args=(agent,), daemon=True, name="agent-watch").start()
    module, _, function = target.rpartition(".")
    getattr(importlib.import_module(module), function)(task_json, connection)


def _end_with_agent(agent: int) -> None:
    """A worker without an agent has nobody to stop it (the forkserver is its parent and outlives the agent)."""
    try:
        handle = os.pidfd_open(agent)
    except ProcessLookupError:
        os.killpg(0, signal.SIGKILL)
        return
    except OSError:
        return
    select.select([handle], [], [])
    os.killpg(0, signal.SIGKILL)
