from __future__ import annotations

from typing import Any

from tests.scale.sight import View, find_lags, find_number_lags, find_percentile

INFINITE = float("inf")


def make_view(at: float, **facts: Any) -> View:
    """A running job in its first attempt."""
    defaults = {"phase": "Running", "checkpoint": 0, "failed": 0, "attempts": 1, "step": 1, "first_step_at": 0.0}
    return View(at, **{**defaults, **facts})


def test_lag_is_from_the_word_to_the_first_view_that_shows_it() -> None:
    views = {"a": [make_view(1), make_view(4, checkpoint=7, failed=1), make_view(6, phase="Succeeded", checkpoint=7)]}
    said = [("a", "checkpoint", 7, 2.5), ("a", "fail", 1, 3.0), ("a", "phase", "Finished", 5.5)]
    assert find_lags(views, said) == {"checkpoint": [1.5], "fail": [1.0], "phase": [0.5]}


def test_word_that_was_never_seen_is_infinitely_late() -> None:
    assert find_lags({"a": [make_view(1)]}, [("a", "checkpoint", 7, 0.5)]) == {"checkpoint": [INFINITE]}


def test_figures_are_late_from_the_first_step_that_is_not_shown() -> None:
    # Steps 1, 2, 3, ... are said at 0, 1, 2, ...: with step 3 shown, step 4 of second 3 waits until second 18.
    views = [[make_view(3, step=3), make_view(18, step=18), make_view(38, step=38)]]
    assert find_number_lags(views, since=0.0) == [15.0, 20.0]
    assert find_number_lags(views, since=0.0, until=20.0) == [15.0]
    assert find_number_lags(views, since=10.0) == [20.0]


def test_percentile_is_the_nearest_rank_and_nothing_has_none() -> None:
    assert find_percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert find_percentile([1.0], 0.99) == 1.0
    assert find_percentile([], 0.99) != find_percentile([], 0.99)
