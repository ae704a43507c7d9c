"""Batch arithmetic for the plan. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_contract.run import Resolved


@dataclass(frozen=True)
class Batch:
    """How the rows of one optimizer step are shared out."""

    rows: int
    processes: int
    micro_batch_size: int
    accumulation: int

    @property
    def places(self) -> int:
        """Rows that would fit into the micro-batches of one step."""
        return self.processes * self.micro_batch_size * self.accumulation

    @property
    def empty(self) -> int:
        """Places without a row: they weigh nothing in the loss, so the result does not depend on them."""
        return self.places - self.rows

    def describe(self) -> str:
        """The arithmetic in one line."""
        product = f"processes {self.processes} x micro-batch {self.micro_batch_size} x accumulation {self.accumulation}"
        if not self.empty:
            return f"{self.rows} rows a step = {product}"
        return f"{self.rows} rows a step in {product} = {self.places} places; {self.empty} of them stay empty"


def share_out(resolved: Resolved) -> Batch:
    """The batch of a resolved job."""
    return Batch(
        rows=resolved.batch_size,
        processes=resolved.world_size,
        micro_batch_size=resolved.micro_batch_size,
        accumulation=resolved.gradient_accumulation_steps,
    )
