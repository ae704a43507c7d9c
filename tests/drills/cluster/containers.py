"""The processes inside a pod, seen and struck from the machine that is all of the cluster's nodes.

Needs the cluster of this clone and root; on a cluster of the user's own the drills that strike processes are skipped.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

AGENT = "finetune_trainer.agent"
OPERATOR = "finetune_operator"
LAUNCHER = "multiprocessing.forkserver"


@dataclass(frozen=True)
class Process:
    """One process of a pod, by the machine's own numbers."""

    pid: int
    parent: int
    command: str

    def strike(self, number: signal.Signals) -> None:
        """Send it a signal; one that is gone already does not mind."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def sabotage(self, order: str) -> None:
        """Make it do what sabotage.py knows."""
        path = Path(f"/proc/{self.pid}/root/tmp/sabotage")
        path.write_text(order, encoding="utf-8")
        path.chmod(0o644)
        self.strike(signal.SIGUSR2)


def find_processes(pod_uid: str) -> list[Process]:
    """All processes of a pod that live."""
    found = (_look(int(entry.name), pod_uid) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [process for process in found if process is not None]


def find_agent(pod_uid: str) -> Process | None:
    """The pod's first process of ours."""
    processes = {process.pid: process for process in find_processes(pod_uid) if AGENT in process.command}
    return next((process for process in processes.values() if process.parent not in processes), None)


def find_operator(pod_uid: str) -> Process | None:
    """The operator's process in its pod."""
    return next((process for process in find_processes(pod_uid) if OPERATOR in process.command), None)


def find_workers(pod_uid: str) -> list[Process]:
    """The workers of a trainer pod: what the launcher has forked."""
    processes = find_processes(pod_uid)
    launchers = {process.pid for process in processes if LAUNCHER in process.command}
    return [process for process in processes if process.parent in launchers]


def _look(pid: int, pod_uid: str) -> Process | None:
    try:
        if pod_uid not in Path(f"/proc/{pid}/cgroup").read_text():
            return None
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return None
    return None if fields[0] == "Z" else Process(pid, int(fields[1]), command)
