"""Retention: what may be deleted and what never."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from finetune_contract.progress import CheckpointRecord
from finetune_trainer.store.retention import COMPLETE, best_of, newest_of, plan_retention
from tests.store.make import make_record

states = st.sampled_from(["Saved", "Verified", "Evaluated", "Promoted", "Rejected"])
records = st.lists(
    st.builds(
        make_record,
        step=st.integers(0, 50),
        attempt=st.integers(1, 4),
        state=states,
        f1=st.none() | st.floats(0, 1),
    ),
    max_size=20,
    unique_by=lambda record: (record.step, record.attempt),
)


def _plan(known: list[CheckpointRecord], keep_last: int = 2, keep_best: int = 1) -> tuple[CheckpointRecord, ...]:
    return plan_retention(known, keep_last, keep_best, "f1", greater_is_better=True)


def test_keeps_the_newest_and_the_best_of_whichever_attempt() -> None:
    best = make_record(step=10, attempt=1, state="Evaluated", f1=0.9)
    old = make_record(step=20, attempt=1, state="Evaluated", f1=0.5)
    newer = make_record(step=30, attempt=2, state="Evaluated", f1=0.6)
    newest = make_record(step=40, attempt=2)
    assert _plan([best, old, newer, newest]) == (old,)


def test_keeps_more_of_the_best_when_asked() -> None:
    known = [make_record(step=step, state="Evaluated", f1=1 - step / 100) for step in (10, 20, 30, 40, 50)]
    assert [record.step for record in _plan(known, keep_last=1, keep_best=2)] == [30, 40]


def test_of_equal_metrics_the_earlier_step_is_best() -> None:
    known = [make_record(step=step, state="Evaluated", f1=0.5) for step in (30, 10, 20)]
    assert best_of(known, "f1", greater_is_better=True) == known[1]


def test_smaller_is_better_for_a_loss() -> None:
    low, high = (make_record(step=step, state="Evaluated", f1=value) for step, value in ((10, 0.1), (20, 0.9)))
    assert best_of([low, high], "f1", greater_is_better=False) == low


@given(records, st.integers(1, 5), st.integers(1, 5))
def test_never_deletes_the_best_the_newest_or_one_that_is_being_written(
    known: list[CheckpointRecord], keep_last: int, keep_best: int
) -> None:
    gone = _plan(known, keep_last, keep_best)
    assert best_of(known, "f1", greater_is_better=True) not in gone
    assert newest_of(known) not in gone
    assert all(record.state in COMPLETE for record in gone)


@given(records, st.integers(1, 5), st.integers(1, 5))
def test_what_stays_is_bounded_and_a_second_plan_finds_nothing(
    known: list[CheckpointRecord], keep_last: int, keep_best: int
) -> None:
    gone = _plan(known, keep_last, keep_best)
    left = [record for record in known if record not in gone]
    assert sum(record.state in COMPLETE for record in left) <= keep_last + keep_best
    assert _plan(left, keep_last, keep_best) == ()
