"""The one agent of a local run: started, asked, told and ended from here. Knows HTTP and processes, decides nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from finetune_cli.run_folder import RunFolder
from finetune_contract import names
from finetune_contract.progress import Progress

ADDRESS: Final = "127.0.0.1"
_ANSWER_SECONDS: Final = 5


@dataclass(frozen=True)
class AgentProcess:
    """A running agent."""

    process: subprocess.Popen[bytes]
    port: int

    def ask(self) -> Progress | None:
        """What the agent says now; None while it does not answer."""
        try:
            with urllib.request.urlopen(
                f"http://{ADDRESS}:{self.port}{names.PATH_PROGRESS}", timeout=_ANSWER_SECONDS
            ) as answer:
                return Progress.from_json(answer.read())
        except (OSError, urllib.error.URLError, ValidationError):
            return None

    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self.process.poll()

    def wait(self, seconds: float) -> bool:
        """Wait for its end; False when it still runs after that time."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End the agent and everything that it started, at once."""
        for pid in (*list_descendants(self.process.pid), self.process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()


def start_agent(folder: RunFolder, lock: int) -> AgentProcess:
    """Start the agent in a session of its own, so that Ctrl-C in the terminal reaches only us."""
    port = find_free_port()
    environment = {
        **os.environ,
        names.ENV_RUN_CONFIG: str(folder.run_file),
        names.ENV_ANNOTATIONS_DIR: str(folder.annotations),
        names.ENV_WORK_DIR: str(folder.work),
        names.ENV_NODE_INDEX: "0",
        names.ENV_ROLE: names.ROLE_TRAINER,
        names.ENV_PORT: str(port),
        names.ENV_LOG_FORMAT: os.environ.get(names.ENV_LOG_FORMAT, "text"),
        "PYTHONUNBUFFERED": "1",
    }
    folder.work.mkdir(parents=True, exist_ok=True)
    with folder.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "finetune_trainer.agent"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock,),
        )
    return AgentProcess(process, port)


def find_free_port() -> int:
    """A port of this machine that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])


def list_descendants(pid: int) -> Iterator[int]:
    """Process ids of all children and their children, each after its own (Linux; nothing elsewhere)."""
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            text = children.read_text()
        except OSError:
            continue  # the thread ended meanwhile
        for child in text.split():
            yield from list_descendants(int(child))
            yield int(child)
