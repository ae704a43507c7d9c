"""Shows progress while a job runs: bars that move on a terminal, one plain line an interval anywhere else.

Both go to stderr. Must not decide anything about the job.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from finetune_cli.output import talk
from finetune_cli.progress_text import (
    STAGES,
    TITLES,
    Stage,
    describe_metrics,
    describe_preparation,
    describe_training,
    find_stage,
)
from finetune_contract.progress import AgentPhase, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

PLAIN_INTERVAL_SECONDS: Final = 10.0
"""Between two plain lines of the same phase; a log file has no screen that could be redrawn."""


class Display(Protocol):
    """What the loop shows progress on."""

    def show(self, progress: Progress) -> None:
        """Show the newest state."""

    def close(self) -> None:
        """Leave the last state standing."""


def open_display() -> Display:
    """Bars on a terminal, lines elsewhere."""
    return BarDisplay() if talk().is_terminal else LineDisplay()


class LineDisplay:
    """One line whenever the phase changes, and one an interval if it says something new."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._phase: AgentPhase | None = None
        self._said, self._said_at = "", 0.0
        self._warnings = Warnings()

    def show(self, progress: Progress) -> None:
        """Print a line if one is due."""
        self._warnings.show(progress)
        now = self._clock()
        if progress.phase == self._phase and now - self._said_at < PLAIN_INTERVAL_SECONDS:
            return
        self._phase, self._said_at = progress.phase, now
        note = describe_stage(find_stage(progress.phase), progress)
        line = f"{progress.phase.lower()}: {note}" if note else progress.phase.lower()
        if line != self._said:
            self._said = line
            talk().print(line, markup=False)

    def close(self) -> None:
        """Nothing is left open."""


class BarDisplay:
    """A bar a stage; the one that moves has a spinner."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        self._bars: Bars = Bars(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=talk(),
        )
        self._tasks: dict[Stage, TaskID] = {}
        self._stage: Stage = "prepare"
        self._warnings = Warnings()
        self._bars.start()

    def show(self, progress: Progress) -> None:
        """Move the bar of the current stage and complete those before it."""
        self._warnings.show(progress)
        self._stage = find_stage(progress.phase) or self._stage
        reached = STAGES.index(self._stage)
        for index, stage in enumerate(STAGES[: reached + 1]):
            done, total = (1, 1) if index < reached or progress.phase == "Finished" else count_done(stage, progress)
            self._bars.update(self._task(stage), completed=done, total=total, note=describe_stage(stage, progress))

    def close(self) -> None:
        """Stop redrawing."""
        self._bars.stop()

    def _task(self, stage: Stage) -> TaskID:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(TITLES[stage], total=None, note="")
        return self._tasks[stage]


class Warnings:
    """Says every warning once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def show(self, progress: Progress) -> None:
        """Print what is new."""
        for warning in progress.warnings:
            if warning not in self._said:
                self._said.add(warning)
                talk().print(f"[yellow]warning:[/] {_escape(warning)}")


def count_done(stage: Stage, progress: Progress) -> tuple[int, int | None]:
    """How much of a stage is done, and of how much; None while that is unknown."""
    if stage == "prepare" and progress.preparation is not None and progress.preparation.total:
        return progress.preparation.done, progress.preparation.total
    if stage == "train" and progress.step.total_steps:
        return progress.step.step, progress.step.total_steps
    return 0, None


def describe_stage(stage: Stage | None, progress: Progress) -> str:
    """The words beside a stage's bar."""
    match stage:
        case "prepare":
            return describe_preparation(progress.preparation, progress.data)
        case "train":
            words = describe_training(progress.phase, progress.step, progress.metrics)
            return f"{words}  attempt {progress.attempt}" if progress.attempt > 1 else words
        case "evaluate":
            evaluation = progress.outcome.evaluation if progress.outcome else None
            return f"test {describe_metrics(evaluation.test)}" if evaluation and evaluation.test else ""
        case _:
            return ""


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
