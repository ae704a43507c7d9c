"""The ranks' agreement to stop or to save: one small all-reduce a step on the control group, read a step later.

The reduction is launched at one poll and read at the next, so that no step waits for it. Every rank must poll equally
often, in training and in evaluation alike.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import torch
import torch.distributed as dist

from finetune_trainer.worker.link import AgentLink
from finetune_trainer.worker.ranks import Ranks


class Signal(IntEnum):
    """What the ranks agree to do; the highest wish wins."""

    NONE = 0
    SAVE = 1
    STOP = 2


class Votes:
    """Collects each rank's wish."""

    def __init__(self, ranks: Ranks, link: AgentLink) -> None:
        self._ranks = ranks
        self._link = link
        self._pending: tuple[Any, torch.Tensor] | None = None

    def poll(self, wants_save: bool = False) -> Signal:
        """Give this rank's wish; return what all ranks agreed on at the poll before."""
        agreed = self.settle()
        wish = Signal.STOP if self._link.stop_requested else Signal.SAVE if wants_save else Signal.NONE
        ballot = torch.tensor([int(wish)])
        self._pending = (
            dist.all_reduce(ballot, op=dist.ReduceOp.MAX, group=self._ranks.control, async_op=True),
            ballot,
        )
        return agreed

    def settle(self) -> Signal:
        """What the last poll came to; nothing is under way afterwards."""
        if self._pending is None:
            return Signal.NONE
        work, ballot = self._pending
        self._pending = None
        work.wait()
        return Signal(int(ballot.item()))
