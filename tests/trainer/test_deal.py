from __future__ import annotations

from math import ceil

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from finetune_trainer.worker.deal import deal_rows


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=40),
    world_size=st.integers(1, 6),
    micro_batch_size=st.integers(1, 9),
)
def test_all_ranks_together_have_every_row_once_in_equally_many_micro_batches(
    lengths: list[int], world_size: int, micro_batch_size: int
) -> None:
    rows, sizes = np.arange(len(lengths))[::-1], np.array(lengths, dtype=np.int32)
    dealt = [deal_rows(rows, sizes, rank, world_size, micro_batch_size) for rank in range(world_size)]
    assert sorted(row for rank in dealt for batch in rank for row in batch) == list(range(len(lengths)))
    assert {len(rank) for rank in dealt} == {ceil(len(lengths) / (world_size * micro_batch_size))}
    assert max(len(batch) for rank in dealt for batch in rank) <= micro_batch_size


def test_rows_of_like_length_share_a_micro_batch() -> None:
    lengths = np.array([9, 1, 8, 2], dtype=np.int32)
    assert deal_rows(np.arange(4), lengths, 0, 1, 2) == [[0, 2], [3, 1]]


def test_a_rank_without_rows_has_empty_micro_batches() -> None:
    lengths = np.array([1, 1], dtype=np.int32)
    assert [deal_rows(np.arange(2), lengths, rank, 3, 4) for rank in range(3)] == [[[0]], [[1]], [[]]]


def test_no_rows_are_no_micro_batches() -> None:
    assert deal_rows(np.arange(0), np.array([], dtype=np.int32), 0, 2, 4) == []
