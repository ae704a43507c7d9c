from __future__ import annotations

from typing import Any

import pytest

from finetune_trainer.worker.schedule import Schedule, make_schedule
from tests.trainer.make import make_run


def steps_where(schedule: Schedule, due: str) -> list[int]:
    return [step for step in range(1, schedule.total_steps + 1) if getattr(schedule, due)(step)]


@pytest.mark.parametrize(
    ("resolved", "total_steps", "total_rows"),
    [
        ({"epochs": 2.0}, 5, 40),
        ({"epochs": 0.5}, 2, 10),
        ({"epochs": 0.01}, 1, 1),
        ({"epochs": 2.0, "max_steps": 3}, 3, 24),
        ({"epochs": None, "max_steps": 7}, 7, 56),
    ],
)
def test_training_ends_by_epochs_or_steps(resolved: dict[str, Any], total_steps: int, total_rows: int) -> None:
    schedule = make_schedule(make_run(**resolved), rows=20)
    assert (schedule.total_steps, schedule.total_rows) == (total_steps, total_rows)


@pytest.mark.parametrize(
    ("resolved", "steps"),
    [
        ({"evaluate_every_steps": 4, "evaluate_every_epochs": None}, [4, 8, 10]),
        ({"evaluate_every_epochs": 1.0}, [5, 10]),
        ({"evaluate_every_epochs": 0.5}, [3, 5, 8, 10]),
        ({"evaluate_every_epochs": 0.3}, [2, 3, 5, 6, 8, 9, 10]),
        ({"evaluate_every_epochs": 5.0}, [10]),
        ({"evaluate_every_epochs": 0.001}, list(range(1, 11))),
        ({"evaluate_every_epochs": None}, [5, 10]),
    ],
)
def test_evaluations_come_at_the_wished_interval_and_at_the_end(resolved: dict[str, Any], steps: list[int]) -> None:
    assert steps_where(make_schedule(make_run(**resolved), rows=40), "evaluates_at") == steps


def test_checkpoints_between_evaluations_are_wished_in_steps() -> None:
    run = make_run(spec={"checkpoints": {"everySteps": 4}})
    assert steps_where(make_schedule(run, rows=40), "saves_at") == [4, 8]
    assert steps_where(make_schedule(make_run(), rows=40), "saves_at") == []


@pytest.mark.parametrize(
    "settings",
    [
        {"evaluate_every_steps": 4, "evaluate_every_epochs": None},
        *({"evaluate_every_epochs": epochs} for epochs in (1.0, 0.5, 0.3, 5.0, 0.001)),
        {"epochs": 0.7, "evaluate_every_epochs": 0.25, "spec": {"checkpoints": {"everySteps": 3}}},
    ],
)
@pytest.mark.parametrize("rows", [40, 61])
def test_next_pause_is_the_first_step_that_something_follows(settings: dict[str, Any], rows: int) -> None:
    schedule = make_schedule(make_run(**settings), rows=rows)
    pauses = sorted({*steps_where(schedule, "evaluates_at"), *steps_where(schedule, "saves_at")})
    expected = [next(pause for pause in pauses if pause > step) for step in range(schedule.total_steps)]
    assert [schedule.find_next_pause(step) for step in range(schedule.total_steps)] == expected
    assert schedule.find_next_pause(schedule.total_steps) == schedule.total_steps


def test_a_long_run_logs_two_hundred_times_and_first_of_all_the_first_step() -> None:
    schedule = make_schedule(make_run(epochs=None, max_steps=1000), rows=40)
    assert steps_where(schedule, "logs_at") == [1, *range(5, 1001, 5)]


def test_the_last_step_takes_the_rows_that_are_left() -> None:
    schedule = make_schedule(make_run(epochs=1.0), rows=21)
    assert [schedule.rows_consumed(step) for step in range(4)] == [0, 8, 16, 21]
    assert schedule.epoch(3) == 1.0
