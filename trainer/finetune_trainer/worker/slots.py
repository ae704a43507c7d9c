"""Where this node's snapshots go: a few folders that are written again and again, `slot-0`, `slot-1`, ...

A slot is taken by a step until the agent has released it. Nothing is decided for other ranks here (snapshot.py does).
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

FEWEST_SLOTS: Final = 2
"""One that is being written, and the newest complete one."""
MOST_SLOTS: Final = 4
PARKED: Final = "parked"
"""Folder in a slot for files that this step has no use for; their pages stay."""


def count_slots(bytes_of_node: int, bytes_of_snapshot: int) -> int:
    """Slots that fit; 0 where fewer than two do. Pure."""
    fitting = min(MOST_SLOTS, bytes_of_node // max(1, bytes_of_snapshot))
    return fitting if fitting >= FEWEST_SLOTS else 0


class Slots:
    """The slots below one folder, and which step lies in each."""

    def __init__(self, folder: Path, count: int, held: Collection[str] = ()) -> None:
        """`held`: folders of slots that earlier attempts have filled and the agent still needs."""
        self._folders = [folder / f"slot-{number}" for number in range(count)]
        self._taken: dict[str, int | None] = {str(path): None for path in self._folders if str(path) in held}
        self._steps: dict[int, Path] = {}

    @property
    def folders(self) -> tuple[Path, ...]:
        """All slots."""
        return tuple(self._folders)

    def find_free(self) -> tuple[str, ...]:
        """Slots that may be written."""
        return tuple(str(path) for path in self._folders if str(path) not in self._taken)

    def take(self, folder: Path, step: int) -> None:
        """A step's snapshot begins in this slot."""
        self._taken[str(folder)] = step
        self._steps = {known: path for known, path in self._steps.items() if path != folder}

    def complete(self, folder: Path, step: int) -> None:
        """The step's snapshot is complete."""
        self._steps[step] = folder

    def release(self, folder: str) -> None:
        """The agent does not need this slot's content any longer."""
        self._taken.pop(folder, None)

    def find_step(self, step: int) -> Path | None:
        """The slot in which this step's complete snapshot still lies, released or not."""
        return self._steps.get(step)
