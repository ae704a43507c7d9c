from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from finetune_trainer.data.split import split_rows

SHARES = {"validation": 0.2, "test": 0.1}


@given(
    classes=st.lists(st.sampled_from("abc"), min_size=1, max_size=80),
    seed=st.integers(0, 1000),
    validation=st.floats(0.0, 0.45),
    test=st.floats(0.0, 0.45),
)
def test_every_row_is_in_one_part_and_every_class_stays_in_training(
    classes: list[str], seed: int, validation: float, test: float
) -> None:
    parts = split_rows(len(classes), {"validation": validation, "test": test}, seed, classes=classes)
    assert sorted(row for rows in parts.values() for row in rows) == list(range(len(classes)))
    assert {classes[row] for row in parts["train"]} == set(classes)


@given(groups=st.lists(st.integers(0, 9), min_size=2, max_size=60), seed=st.integers(0, 1000))
def test_rows_of_a_group_stay_together_and_training_keeps_one(groups: list[int], seed: int) -> None:
    parts = split_rows(len(groups), SHARES, seed, groups=groups)
    places = [{part for part, rows in parts.items() if row in rows} for row in range(len(groups))]
    assert all(len(place) == 1 for place in places)
    assert all(places[a] == places[b] for a in range(len(groups)) for b in range(len(groups)) if groups[a] == groups[b])
    assert parts["train"]


def test_every_part_has_each_classs_share() -> None:
    classes = ["spam" if row % 4 == 0 else "ham" for row in range(200)]
    parts = split_rows(200, SHARES, 0, classes=classes)
    counts = {part: Counter(classes[row] for row in rows) for part, rows in parts.items()}
    assert counts == {
        "train": {"ham": 105, "spam": 35},
        "validation": {"ham": 30, "spam": 10},
        "test": {"ham": 15, "spam": 5},
    }


def test_the_seed_alone_decides() -> None:
    assert split_rows(50, SHARES, 1) == split_rows(50, SHARES, 1)
    assert split_rows(50, SHARES, 1) != split_rows(50, SHARES, 2)


def test_few_rows_still_give_every_part_one() -> None:
    parts = split_rows(5, SHARES, 0)
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 3, "validation": 1, "test": 1}


def test_no_share_is_no_part() -> None:
    assert split_rows(5, {"validation": 0.0, "test": 0.2}, 0).keys() == {"train", "test"}
