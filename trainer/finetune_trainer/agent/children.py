"""Processes of ours that are not workers: data preparation and publishing. Their output is the agent's output."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

LINE_BYTES = 64 * 1024 * 1024
"""The longest line that a child may write (a summary with ten thousand class names is one)."""
LAST_LINES = 20
TERM_SECONDS = 5.0


@dataclass(frozen=True)
class ChildEnd:
    """How a child ended."""

    exit_code: int
    """Negative: ended by that signal."""
    last_lines: tuple[str, ...]


async def run_child(
    command: Sequence[str], environment: Mapping[str, str], label: str, hear: Callable[[str], bool]
) -> ChildEnd:
    """Run a command to its end; cancelled, it is ended too.

    `hear` gets every line of its stdout and says whether it was meant for the agent; all others go to the agent's
    output with `label` before them.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        env=dict(environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=LINE_BYTES,
        start_new_session=True,
    )
    last: deque[str] = deque(maxlen=LAST_LINES)
    try:
        await asyncio.gather(
            _follow(process.stdout, label, last, hear),
            _follow(process.stderr, label, last, lambda line: False),
        )
        return ChildEnd(await process.wait(), tuple(last))
    finally:
        await _end(process)


async def _follow(
    stream: asyncio.StreamReader | None, label: str, last: deque[str], hear: Callable[[str], bool]
) -> None:
    assert stream is not None
    async for raw in stream:
        line = raw.decode(errors="replace").rstrip()
        if line and not hear(line):
            last.append(line[:4000])
            sys.stdout.write(f"{label} {line}\n")
            sys.stdout.flush()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), TERM_SECONDS)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
