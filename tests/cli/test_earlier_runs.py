from __future__ import annotations

from typing import Any

import pytest

from finetune_cli.earlier_runs import EarlierRuns, find_changes
from tests.cli.make import make_checkpoint, make_job


def changes(old: dict[str, Any], new: dict[str, Any]) -> tuple[str, ...]:
    return find_changes(make_job(old).spec, make_job(new).spec)


def test_differing_fields_are_named_with_both_values() -> None:
    old = {"training": {"epochs": 3}, "evaluation": {"gate": [{"metric": "f1", "min": 0.5}]}}
    new = {"training": {"epochs": 4, "maxLength": 64}, "evaluation": {"gate": [{"metric": "f1", "min": 0.6}]}}
    assert changes(old, new) == (
        "spec.training.epochs: 3.0 -> 4.0",
        "spec.training.maxLength: absent -> 64",
        "spec.evaluation.gate[0].min: 0.5 -> 0.6",
    )


def test_an_unwritten_default_is_no_change() -> None:
    assert changes({}, {"training": {"batchSize": 32}}) == ()


@pytest.mark.parametrize(
    "change",
    [
        {"resources": {"nodes": 2, "memory": "8Gi"}},
        {"pod": {"image": "other"}},
        {"lifecycle": {"backoffLimit": 0}},
        {"storage": {"secretRef": {"name": "bucket"}}},
        {"suspend": True},
        {"budget": {"maxGpuHours": 1.0}},
    ],
)
def test_where_and_how_long_a_job_runs_may_change(change: dict[str, Any]) -> None:
    assert changes({}, change) == ()


def test_the_newest_step_is_that_of_a_verified_checkpoint() -> None:
    earlier = EarlierRuns(attempt=2, checkpoints=(make_checkpoint(10, 1), make_checkpoint(20, 2, digest=None)))
    assert (earlier.newest_step, EarlierRuns().newest_step) == (10, 0)
