"""The order of rows: a pure function of seed and consumed rows, the same at every world size and after every resume.

Epochs follow each other without a gap: every epoch is a permutation of all rows, and a step may end one epoch and begin
the next.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def order_rows(seed: int, size: int, consumed: int, count: int) -> Rows:
    """The `count` rows after the first `consumed` ones: positions in the prepared part, int64 [count]."""
    epoch, place = divmod(consumed, size)
    pieces = []
    while count > 0:
        piece = _permute(seed, size, epoch)[place : place + count]
        pieces.append(piece)
        count -= len(piece)
        epoch, place = epoch + 1, 0
    return np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int64)


@lru_cache(maxsize=2)
def _permute(seed: int, size: int, epoch: int) -> Rows:
    return np.random.default_rng((seed, epoch)).permutation(size)
