"""How often each agent is asked, so that thousands of them cost no more than a share of one core. Pure arithmetic.

Agents whose job is about to change are asked most often, then those that may tell a checkpoint any moment, then those
that merely train. None of this delays an attempt's or a job's end: a pod that has such news fails its readiness probe,
which has it asked at once.
"""

from __future__ import annotations

import json
import math
from typing import Final, Literal

from finetune_contract import names
from finetune_contract.progress import AgentPhase
from finetune_operator.snapshot import Key, Pod

INTERVAL_SECONDS: Final = 3.0
"""Between two questions to one agent, while there are few."""
Group = Literal["moving", "telling", "training"]
REQUESTS_PER_SECOND: Final[dict[Group, float]] = {"moving": 600.0, "telling": 400.0, "training": 40.0}
"""What all agents of a group are asked together, at most."""
LONGEST_SECONDS: Final[dict[Group, float]] = {"moving": math.inf, "telling": 20.0, "training": 60.0}
"""No agent that answers is left alone for longer, however many there are."""
TRUSTED: Final = 0.8
"""Share of the time that an agent expects to be quiet in which it is believed: steps may become faster."""
_SETTLED: Final[frozenset[AgentPhase]] = frozenset({"Training", "Evaluating"})


class Pace:
    """Who is asked, and how often."""

    def __init__(self, interval: float = INTERVAL_SECONDS) -> None:
        self.interval = interval
        self._groups: dict[Key, Group] = {}
        self._counts: dict[Group, int] = dict.fromkeys(REQUESTS_PER_SECOND, 0)

    def place(self, key: Key, group: Group) -> float:
        """Count an agent in its group; returns the seconds until it is asked again."""
        self.forget(key)
        self._groups[key] = group
        self._counts[group] += 1
        return self.find_seconds(key)

    def find_seconds(self, key: Key) -> float:
        """Seconds between two questions to this agent."""
        group = self._groups.get(key, "moving")
        return max(self.interval, min(self._counts[group] / REQUESTS_PER_SECOND[group], LONGEST_SECONDS[group]))

    def forget(self, key: Key) -> None:
        """The agent is asked no more."""
        group = self._groups.pop(key, None)
        if group is not None:
            self._counts[group] -= 1


def choose_group(pod: Pod, attempt: int, phase: AgentPhase, *, is_quiet: bool = False) -> Group:
    """The group of an agent that follows this attempt and says it is in this phase.

    `is_quiet`: it said when it expects something to happen, and that is not now.
    """
    is_stopping = (_read_number(pod.stop, "attempt") or 0) >= attempt
    told = _read_number(pod.attempt, "number")
    if phase not in _SETTLED or told != attempt or is_stopping or pod.deleting or not pod.ready:
        return "moving"
    tells = pod.node_index == 0 or pod.role != names.ROLE_TRAINER
    return "telling" if tells and not is_quiet else "training"


def _read_number(annotation: str | None, field: str) -> int | None:
    """A number in an annotation; None where there is none, or nothing readable."""
    try:
        number = json.loads(annotation or "")[field]
    except (ValueError, KeyError, TypeError):
        return None
    return number if isinstance(number, int) else None
