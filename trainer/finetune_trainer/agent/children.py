"""Processes of ours that are not workers: data preparation and publishing. Their output is the agent's output."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from finetune_trainer.agent.child_log import ChildLog
from finetune_trainer.agent.log_format import Origin

LINE_BYTES = 64 * 1024 * 1024
"""The longest line that a child may write (a summary with ten thousand class names is one)."""
TERM_SECONDS = 5.0


@dataclass(frozen=True)
class ChildEnd:
    """How a child ended."""

    exit_code: int
    """Negative: ended by that signal."""
    last_lines: tuple[str, ...]


async def run_child(
    command: Sequence[str], environment: Mapping[str, str], name: str, hear: Callable[[str], bool]
) -> ChildEnd:
    """Run a command to its end; cancelled, it is ended too.

    `hear` gets every line of its stdout and says whether it was meant for the agent; all others go to the agent's
    log as the words of `name`.
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
    log = ChildLog(Origin(name))
    try:
        await asyncio.gather(
            _follow(process.stdout, log, hear),
            _follow(process.stderr, log, lambda line: False),
        )
        return ChildEnd(await process.wait(), log.last_lines)
    finally:
        await _end(process)


async def _follow(stream: asyncio.StreamReader | None, log: ChildLog, hear: Callable[[str], bool]) -> None:
    assert stream is not None
    async for raw in stream:
        if not hear(raw.decode(errors="replace").rstrip()):
            log.feed(raw.rstrip(b"\n") + b"\n")


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
