"""Long-lived processes of the ground: started detached, remembered in a pid file, ended only by that file."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

POLL_SECONDS = 0.05


class StartError(RuntimeError):
    """Something of the ground did not come up; the message holds the end of its log."""


def start(folder: Path, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Start a command unless it runs already; ``folder`` receives ``name.pid`` and ``name.log``."""
    if is_running(folder, name):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.log").open("wb") as log:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    (folder / f"{name}.pid").write_text(f"{child.pid} {_started_at(child.pid)}")


def is_running(folder: Path, name: str) -> bool:
    """Say whether the process that the pid file names still lives."""
    return _pid(folder, name) is not None


def stop(folder: Path, name: str, patience: float = 10.0) -> None:
    """End a process: SIGTERM, after ``patience`` seconds SIGKILL."""
    pid = _pid(folder, name)
    if pid is not None:
        for number, limit in ((signal.SIGTERM, patience), (signal.SIGKILL, 5.0)):
            os.kill(pid, number)
            deadline = time.monotonic() + limit
            while _pid(folder, name) is not None and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
            if _pid(folder, name) is None:
                break
    (folder / f"{name}.pid").unlink(missing_ok=True)


def wait_until(condition: Callable[[], bool], what: str, folder: Path, name: str, seconds: float = 60.0) -> None:
    """Wait for a condition while the process lives; raise with its log's end otherwise."""
    deadline = time.monotonic() + seconds
    while not condition():
        if not is_running(folder, name) or time.monotonic() > deadline:
            raise StartError(f"{what}: {name} did not get there. Its log ends:\n{log_end(folder, name)}")
        time.sleep(POLL_SECONDS)


def pause() -> None:
    """Wait a moment before looking again."""
    time.sleep(POLL_SECONDS)


def log_end(folder: Path, name: str, lines: int = 15) -> str:
    """Return the last lines of a process's log."""
    log = folder / f"{name}.log"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else "(no log)"


def _pid(folder: Path, name: str) -> int | None:
    """Read the pid file; a number that the system gave to somebody else since does not count."""
    try:
        pid, started_at = (folder / f"{name}.pid").read_text().split()
    except (OSError, ValueError):
        return None
    _reap(int(pid))
    return int(pid) if _started_at(int(pid)) == started_at else None


def _started_at(pid: int) -> str:
    """Return the process's start time in ticks since boot, or an empty word when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
