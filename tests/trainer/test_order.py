from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from finetune_trainer.worker.order import order_rows

SIZES = st.integers(1, 40)
SEEDS = st.integers(0, 2**31 - 1)


@given(seed=SEEDS, size=SIZES, epochs=st.integers(1, 4))
def test_every_epoch_has_every_row_once(seed: int, size: int, epochs: int) -> None:
    rows = order_rows(seed, size, 0, size * epochs)
    assert [sorted(epoch) for epoch in rows.reshape(epochs, size).tolist()] == [list(range(size))] * epochs


@given(seed=SEEDS, size=SIZES, consumed=st.integers(0, 100), counts=st.lists(st.integers(0, 30), max_size=5))
def test_rows_do_not_depend_on_how_they_are_asked_for(seed: int, size: int, consumed: int, counts: list[int]) -> None:
    whole = order_rows(seed, size, consumed, sum(counts))
    starts = consumed + np.cumsum([0, *counts])
    pieces = [order_rows(seed, size, int(start), count) for start, count in zip(starts, counts, strict=False)]
    assert np.concatenate([*pieces, np.empty(0, dtype=np.int64)]).tolist() == whole.tolist()


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    first, second = order_rows(1, 50, 0, 50).tolist(), order_rows(1, 50, 50, 50).tolist()
    assert first != second
    assert first != order_rows(2, 50, 0, 50).tolist()
