"""What a job costs the API server and the operator's memory: frozen, so that it grows by decision and not by accident.

After a change that is worth its price: `python -m tests.scale.budget --update`.
"""

from __future__ import annotations

from tests.scale.budget import GROWTH, Observed, read_budget

STATUS = "patch finetunejobs/status"


def test_job_from_apply_to_succeeded_costs_exactly_these_writes(observed: Observed) -> None:
    assert leave_out_status(observed.budget.writes) == leave_out_status(read_budget().writes)


def test_status_is_written_no_more_often_than_a_job_has_stages(observed: Observed) -> None:
    # Not exactly as often: on a busy machine one write tells of two stages.
    frozen = read_budget().writes
    written = {job: counts[STATUS] for job, counts in observed.budget.writes.items()}
    assert {job: count for job, count in written.items() if count > frozen[job][STATUS]} == {}
    assert all(count >= 6 for count in written.values()), written


def test_no_write_changes_nothing(observed: Observed) -> None:
    assert observed.idle_writes == []


def test_calls_for_a_job_do_not_grow_by_a_fifth(observed: Observed) -> None:
    assert observed.budget.calls_a_job <= GROWTH * read_budget().calls_a_job


def test_memory_for_a_job_does_not_grow_by_a_fifth(observed: Observed) -> None:
    assert observed.budget.memory_a_job <= GROWTH * read_budget().memory_a_job


def leave_out_status(writes: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    return {job: {what: count for what, count in counts.items() if what != STATUS} for job, counts in writes.items()}
