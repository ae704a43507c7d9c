from __future__ import annotations

import math
from functools import reduce

import pytest

from finetune_contract.spec.evaluation import EarlyStoppingSpec
from finetune_trainer.evaluation.best import BestSoFar


def judge_all(values: list[float], greater_is_better: bool = True, min_delta: float = 0.0) -> BestSoFar:
    return reduce(
        lambda best, item: best.judge(item[0], item[1], greater_is_better, min_delta),
        enumerate(values, start=1),
        BestSoFar(),
    )


@pytest.mark.parametrize(
    ("values", "greater_is_better", "step"),
    [
        ([0.1, 0.3, 0.2], True, 2),
        ([0.1, 0.3, 0.2], False, 1),
        ([0.5, 0.5], True, 1),
        ([math.nan, 0.1], True, 2),
        ([0.1, math.nan], True, 1),
        ([math.nan], True, 0),
    ],
)
def test_the_best_is_the_first_strictly_better_value(values: list[float], greater_is_better: bool, step: int) -> None:
    assert judge_all(values, greater_is_better).step == step


def test_a_small_improvement_is_the_best_and_still_counts_as_waiting() -> None:
    assert judge_all([0.5, 0.51, 0.52], min_delta=0.1) == BestSoFar(step=3, value=0.52, stale=2, reference=0.5)


def test_judging_a_step_again_changes_nothing() -> None:
    best = judge_all([0.5])
    assert best.judge(1, 0.5, True) == best


@pytest.mark.parametrize(("values", "over"), [([0.5, 0.4], False), ([0.5, 0.4, 0.3], True), ([0.3, 0.2, 0.4], False)])
def test_patience_ends_after_so_many_evaluations_without_improvement(values: list[float], over: bool) -> None:
    assert judge_all(values).has_run_out(EarlyStoppingSpec(patience=2)) is over


def test_without_early_stopping_patience_never_ends() -> None:
    assert not judge_all([0.5, *[0.1] * 50]).has_run_out(None)
