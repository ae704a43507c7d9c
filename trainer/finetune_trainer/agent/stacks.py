"""Asks hung workers for their Python stacks: faulthandler writes them on SIGUSR1, even when Python itself stands still.

Each worker has a file of its own (entry.py registers it). A process that is stopped gives none.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path

from finetune_trainer.agent.hang import Sight, parse_stack

STACK_SECONDS = 3.0
"""How long the answers are awaited."""
POLL_SECONDS = 0.1


def stack_file(attempt_dir: Path, rank: int) -> Path:
    """Where a worker's stack is written."""
    return attempt_dir / f"stack-{rank}.txt"


async def look_at(processes: Mapping[int, int], attempt_dir: Path) -> dict[int, Sight]:
    """Rank -> what is seen of it. `processes`: rank -> process id."""
    for rank, pid in processes.items():
        with contextlib.suppress(OSError):
            # A worker appends, so the file may be emptied under its hands.
            os.truncate(stack_file(attempt_dir, rank), 0)
            os.kill(pid, signal.SIGUSR1)
    waited = 0.0
    while waited < STACK_SECONDS and not all(_is_complete(attempt_dir, rank) for rank in processes):
        await asyncio.sleep(POLL_SECONDS)
        waited += POLL_SECONDS
    return {rank: Sight(_read_stack(attempt_dir, rank), _read_state(pid)) for rank, pid in processes.items()}


def _is_complete(attempt_dir: Path, rank: int) -> bool:
    """Faulthandler writes the current thread last."""
    text = _read_text(attempt_dir, rank)
    return text.rpartition("Current thread")[1] != "" and text.endswith("\n")


def _read_stack(attempt_dir: Path, rank: int) -> tuple[str, ...]:
    return parse_stack(_read_text(attempt_dir, rank))


def _read_text(attempt_dir: Path, rank: int) -> str:
    try:
        return stack_file(attempt_dir, rank).read_text(errors="replace")
    except OSError:
        return ""


def _read_state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return ""
