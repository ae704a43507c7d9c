"""Who computes which rows of a step: rows dealt to micro-batches and ranks, evenly and by length. Pure.

The world size need not divide the number of rows. Every rank gets the same number of micro-batches, since collectives
must match; one that has no row left is empty, and its rank computes some row without weight.
"""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

from finetune_trainer.worker.order import Rows


def deal_rows(
    rows: Rows, lengths: NDArray[np.int32], rank: int, world_size: int, micro_batch_size: int
) -> list[list[int]]:
    """The micro-batches of one rank: lists of positions, at most `micro_batch_size` long, some perhaps empty.

    Rows of similar length share a micro-batch, so that little is padded; `lengths` are those of the whole part.
    """
    ordered = rows[np.argsort(-lengths[rows], kind="stable")]
    micro_batches = ceil(len(rows) / (world_size * micro_batch_size))
    return [piece[rank::world_size].tolist() for piece in np.array_split(ordered, micro_batches)] if len(rows) else []
