"""Which losses nothing can be learnt from, and how that is said."""

from __future__ import annotations

import math
from typing import Any

import pytest

from finetune_contract.spec.lifecycle import FailurePolicySpec
from finetune_trainer.worker.numeric import (
    FEWEST_FOR_A_SPIKE,
    LOSSES_REMEMBERED,
    Place,
    Trouble,
    find_trouble,
    find_worst,
    make_error,
    remember,
)

USUAL = (0.5,) * FEWEST_FOR_A_SPIKE


@pytest.mark.parametrize(
    ("loss", "finite", "recent", "factor", "kind"),
    [
        (0.5, True, USUAL, 3.0, None),
        (math.nan, True, (), None, "loss"),
        (math.inf, False, USUAL, 3.0, "loss"),
        (0.5, False, USUAL, 3.0, "gradients"),
        (1.6, True, USUAL, 3.0, "spike"),
        (1.6, True, USUAL, None, None),
        (1.6, True, USUAL[1:], 3.0, None),
        (1.6, True, (0.0,) * FEWEST_FOR_A_SPIKE, 3.0, None),
    ],
)
def test_trouble(loss: float, finite: bool, recent: tuple[float, ...], factor: float | None, kind: str | None) -> None:
    trouble = find_trouble(7, loss, finite, recent, factor)
    assert (trouble.kind if trouble else None) == kind


def test_only_the_last_losses_are_remembered() -> None:
    losses: tuple[float, ...] = ()
    for number in range(LOSSES_REMEMBERED + 2):
        losses = remember(losses, float(number))
    assert losses == tuple(float(number) for number in range(2, LOSSES_REMEMBERED + 2))


@pytest.mark.parametrize(
    ("losses", "worst"), [((1.0, math.nan, math.inf), 1), ((1.0, math.inf, 2.0), 1), ((1.0, 3.0, 2.0), 1)]
)
def test_the_worst_is_the_first_that_is_not_finite_or_the_highest(losses: tuple[float, ...], worst: int) -> None:
    assert find_worst(losses)[0] == worst


@pytest.mark.parametrize(
    ("policy", "remedy"),
    [
        ({}, "look at these rows, lower training.learningRate, or set failurePolicy.numeric: skip or rollback"),
        (
            {"numeric": "rollback"},
            "failurePolicy.numeric: rollback goes back to the last checkpoint and passes over it",
        ),
        ({"numeric": "skip"}, "2 steps have been passed over and failurePolicy.numericBudget allows 10: look at the"),
    ],
)
def test_an_error_names_step_rank_rows_and_remedy(policy: dict[str, Any], remedy: str) -> None:
    place = Place(samples=tuple(range(100)), rank=1, micro_batch=2, rows=tuple(range(20)))
    error = make_error(Trouble(7, "loss", math.nan), place, FailurePolicySpec.from_data(policy), skipped=2)
    shown = "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, ..."
    assert str(error).startswith(
        f"the loss of step 7 is nan (rank 1, micro-batch 3: rows {shown} of data.train, counted from 0); {remedy}"
    )
    failure = error.to_failure(node=0, rank=1)
    assert (failure.step, failure.phase, failure.rank, failure.secondary) == (7, "forward", 1, False)
    assert failure.samples == tuple(range(64))
    assert error.to_failure(node=0, rank=0).secondary
