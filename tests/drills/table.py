"""The table of the drills: what was broken, what had to happen, what did; on the terminal and in .cluster/drills.json.

Must not judge: a drill's own assertions do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from rich.table import Table

from tests.ground.cache import REPOSITORY

LINES = REPOSITORY / ".cluster" / "drills.jsonl"
"""Every drill that was ever run on this machine, newest last."""
REPORT = REPOSITORY / ".cluster" / "drills.json"
"""The drills of the last session."""


@dataclass(frozen=True)
class Drill:
    """One fault, written down before it is tried."""

    name: str
    fault: str
    """What is done."""
    expected: str
    """What must follow."""


@dataclass
class Sighting:
    """What was seen of a drill so far; the drill fills it in."""

    seen: str = ""
    recovery_seconds: float | None = None
    """From the fault to the next optimizer step (or to whatever the drill waits for)."""
    lost_steps: int | None = None


@dataclass(frozen=True)
class Row:
    """One drill that was run."""

    name: str
    fault: str
    expected: str
    seen: str
    recovery_seconds: float | None = None
    lost_steps: int | None = None
    passed: bool = True


@dataclass
class Session:
    """The rows of this session."""

    rows: list[Row] = field(default_factory=list)


SESSION = Session()


def record(
    name: str,
    fault: str,
    expected: str,
    seen: str,
    *,
    recovery_seconds: float | None = None,
    lost_steps: int | None = None,
    passed: bool = True,
) -> None:
    """Enter one drill; kept on disk at once, so that a killed session loses nothing."""
    row = Row(name, fault, expected, seen, recovery_seconds, lost_steps, passed)
    SESSION.rows.append(row)
    LINES.parent.mkdir(exist_ok=True)
    with LINES.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(asdict(row)) + "\n")


@contextmanager
def rehearse(drill: Drill) -> Iterator[Sighting]:
    """Enter the drill when its block ends: with what was seen, or with what went wrong."""
    sighting = Sighting()
    try:
        yield sighting
    except BaseException as error:
        words = str(error).splitlines() or [type(error).__name__]
        _enter(drill, sighting, f"FAILED: {words[0]}"[:200], passed=False)
        raise
    _enter(drill, sighting, sighting.seen, passed=True)


def _enter(drill: Drill, sighting: Sighting, seen: str, *, passed: bool) -> None:
    record(
        drill.name,
        drill.fault,
        drill.expected,
        seen,
        recovery_seconds=sighting.recovery_seconds,
        lost_steps=sighting.lost_steps,
        passed=passed,
    )


def write_report(rows: Sequence[Row]) -> None:
    """For machines."""
    REPORT.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


def draw(rows: Sequence[Row]) -> Table:
    """For people."""
    table = Table("drill", "fault", "expected", "seen", "recovery", "lost steps", title=f"{len(rows)} recovery drills")
    for row in rows:
        recovery = "" if row.recovery_seconds is None else f"{row.recovery_seconds:.1f} s"
        lost = "" if row.lost_steps is None else str(row.lost_steps)
        style = None if row.passed else "bold red"
        table.add_row(row.name, row.fault, row.expected, row.seen, recovery, lost, style=style)
    return table
