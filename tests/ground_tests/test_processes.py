from __future__ import annotations

import os
from pathlib import Path

from tests.ground import processes


def test_a_started_process_runs_until_it_is_stopped(tmp_path: Path) -> None:
    processes.start(tmp_path, "sleeper", ["sleep", "60"])
    assert processes.is_running(tmp_path, "sleeper")
    processes.stop(tmp_path, "sleeper")
    assert not processes.is_running(tmp_path, "sleeper")


def test_a_pid_that_was_given_to_another_process_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "old.pid").write_text(f"{os.getpid()} 1")
    assert not processes.is_running(tmp_path, "old")
    processes.stop(tmp_path, "old")
