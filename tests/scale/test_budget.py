"""What a job costs the API server and the operator's memory: frozen, so that it grows by decision and not by accident.

After a change that is worth its price: `python -m tests.scale.budget --update`.
"""

from __future__ import annotations

from tests.scale.budget import GROWTH, Observed, read_budget


def test_job_from_apply_to_succeeded_costs_exactly_these_writes(observed: Observed) -> None:
    assert observed.budget.writes == read_budget().writes


def test_no_write_changes_nothing(observed: Observed) -> None:
    assert observed.idle_writes == []


def test_calls_for_a_job_do_not_grow_by_a_fifth(observed: Observed) -> None:
    assert observed.budget.calls_a_job <= GROWTH * read_budget().calls_a_job


def test_memory_for_a_job_does_not_grow_by_a_fifth(observed: Observed) -> None:
    assert observed.budget.memory_a_job <= GROWTH * read_budget().memory_a_job
