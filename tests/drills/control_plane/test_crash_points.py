"""The operator is killed before and after each of its writes: the job ends as it does without."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Final

import pytest

from tests.drills.api_proxy import RESET, RESET_AFTER, Fault, Rule, nth_write
from tests.drills.control_plane.stage import Stage
from tests.drills.control_plane.trials import Trials, try_all

MOMENTS: dict[str, Fault] = {"before": RESET, "after": RESET_AFTER}

UNSURE: Final = 3
"""The journey has a write or two more or less at its end, by the moment at which the agents are heard."""


def crash_at(trials: Trials, numbers: Iterable[int]) -> None:
    def crash(case: tuple[int, str]) -> None:
        number, moment = case
        write = trials.undisturbed.writes[number - 1]

        def kill_there(stage: Stage) -> Rule:
            return Rule(MOMENTS[moment], nth_write(number), then=stage.operator.kill)

        trials.disturb(
            f"operator killed at write {number}", f"SIGKILL {moment} {write.verb} {write.resource}", kill_there
        )

    try_all(list(itertools.product(numbers, MOMENTS)), crash)


def test_killed_operator_goes_on_where_it_was_for_a_third_of_its_writes(trials: Trials) -> None:
    crash_at(trials, (each for each in list_sure(trials) if each % 3 == 1))


@pytest.mark.drill
def test_killed_operator_goes_on_where_it_was_for_every_write(trials: Trials) -> None:
    crash_at(trials, (each for each in list_sure(trials) if each % 3 != 1))


def list_sure(trials: Trials) -> range:
    """Numbers of the writes that every journey has."""
    return range(1, len(trials.undisturbed.writes) + 1 - UNSURE)
