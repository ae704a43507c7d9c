"""Colours and thresholds: the same thing looks the same on every dashboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, get_args

from finetune_contract.progress import AgentPhase
from finetune_contract.status import Phase

GREEN, YELLOW, ORANGE, RED, BLUE, GREY = "green", "yellow", "orange", "red", "blue", "#8e8e8e"

_PHASES: Final[Mapping[str, str]] = {
    "Idle": GREY,
    "Pending": GREY,
    "Queued": "purple",
    "Preparing": "light-blue",
    "Starting": BLUE,
    "Running": GREEN,
    "Training": GREEN,
    "Evaluating": "light-green",
    "Finalizing": "super-light-green",
    "Publishing": "semi-dark-green",
    "Suspending": "light-orange",
    "Suspended": ORANGE,
    "Stopping": "light-orange",
    "Stopped": ORANGE,
    "Finished": "dark-green",
    "Succeeded": "dark-green",
    "Failed": RED,
}
"""The same colour wherever a phase appears."""
JOB_PHASES: Final = {phase: _PHASES[phase] for phase in get_args(Phase)}
AGENT_PHASES: Final = {phase: _PHASES[phase] for phase in get_args(AgentPhase)}

Steps = Sequence[tuple[float | None, str]]
"""Thresholds: from this value on, that colour; the first one has no value."""

LOW_IS_BAD: Final[Steps] = ((None, RED), (0.5, YELLOW), (0.8, GREEN))
"""For a share that should be near 1."""
ANY_IS_BAD: Final[Steps] = ((None, GREEN), (1, RED))
"""For a count that should be 0."""
PLAIN: Final[Steps] = ((None, BLUE),)
MANY_ATTEMPTS: Final[Steps] = ((None, GREEN), (2, YELLOW), (5, RED))
"""One attempt is what a job without trouble needs."""
