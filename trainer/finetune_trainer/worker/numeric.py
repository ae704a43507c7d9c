"""Which loss is no loss to learn from, and the words for it. Pure; guard.py reads the losses and acts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, Literal

from finetune_contract.spec.lifecycle import FailurePolicySpec
from finetune_trainer.errors import NumericError

LOSSES_REMEMBERED: Final = 50
FEWEST_FOR_A_SPIKE: Final = 10
"""Losses of earlier steps without which no loss counts as a jump: a median of a few says little."""
MOST_SAMPLES: Final = 64
"""Rows that a failure names."""
_ROWS_IN_WORDS: Final = 16

Kind = Literal["loss", "spike", "gradients"]


@dataclass(frozen=True)
class Trouble:
    """A step that nothing can be learnt from."""

    step: int
    kind: Kind
    loss: float
    """Mean over the targets of the step."""
    usual: float = math.nan
    """Median of the losses before it."""


@dataclass(frozen=True)
class Place:
    """Where the trouble is: whose micro-batch, and the rows."""

    samples: tuple[int, ...]
    """Positions of the step's rows in the prepared training part."""
    rank: int | None = None
    """The first rank whose loss is not finite, or the one with the highest; None where that cannot be known."""
    micro_batch: int = 0
    """Its micro-batch, from 0."""
    rows: tuple[int, ...] = ()
    """Rows of that micro-batch: their positions in data.train, from 0."""


def find_trouble(
    step: int, loss: float, gradients_finite: bool, recent: Sequence[float], spike_factor: float | None
) -> Trouble | None:
    """What is wrong with a step of this loss; `recent` are the losses of the steps before it."""
    if not math.isfinite(loss):
        return Trouble(step, "loss", loss)
    if spike_factor is not None and len(recent) >= FEWEST_FOR_A_SPIKE:
        usual = median(recent)
        if loss > spike_factor * usual > 0.0:
            return Trouble(step, "spike", loss, usual)
    return None if gradients_finite else Trouble(step, "gradients", loss)


def remember(recent: tuple[float, ...], loss: float) -> tuple[float, ...]:
    """The last losses with one more."""
    return (*recent, loss)[-LOSSES_REMEMBERED:]


def find_worst(losses: Sequence[float]) -> tuple[int, float]:
    """Index and value of the first loss that is not finite, else of the highest."""
    broken = next((index for index, loss in enumerate(losses) if not math.isfinite(loss)), None)
    index = max(range(len(losses)), key=losses.__getitem__) if broken is None else broken
    return index, losses[index]


def describe_trouble(trouble: Trouble, place: Place, policy: FailurePolicySpec) -> str:
    """What was found, where, and what would have counted as right."""
    if trouble.kind == "gradients":
        found = f"the gradients of step {trouble.step} are not finite, although its loss is {trouble.loss:.4g}"
    elif trouble.kind == "spike":
        found = (
            f"the loss of step {trouble.step} is {trouble.loss:.4g}, more than failurePolicy.lossSpikeFactor"
            f" {policy.loss_spike_factor:g} times the median {trouble.usual:.4g} of the steps before"
        )
    else:
        found = f"the loss of step {trouble.step} is {trouble.loss}"
    return found + _describe_place(place)


def make_error(trouble: Trouble, place: Place, policy: FailurePolicySpec, skipped: int = 0) -> NumericError:
    """The end of the attempt; `skipped` steps have been passed over already, where the budget for it is used up."""
    what_now = {
        "fail": "look at these rows, lower training.learningRate, or set failurePolicy.numeric: skip or rollback",
        "rollback": "failurePolicy.numeric: rollback goes back to the last checkpoint and passes over it",
        "skip": f"{skipped} steps have been passed over and failurePolicy.numericBudget allows {policy.numeric_budget}:"
        " look at the data, or lower training.learningRate",
    }
    return NumericError(
        f"{describe_trouble(trouble, place, policy)}; {what_now[policy.numeric]}",
        step=trouble.step,
        samples=place.samples[:MOST_SAMPLES],
        rank=place.rank,
        phase="backward" if trouble.kind == "gradients" else "forward",
    )


def _describe_place(place: Place) -> str:
    if place.rank is None:
        return ""
    shown = ", ".join(str(row) for row in place.rows[:_ROWS_IN_WORDS])
    more = ", ..." if len(place.rows) > _ROWS_IN_WORDS else ""
    rows = f": rows {shown}{more} of data.train, counted from 0" if place.rows else ""
    return f" (rank {place.rank}, micro-batch {place.micro_batch + 1}{rows})"
