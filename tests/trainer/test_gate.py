from __future__ import annotations

import math

import pytest

from finetune_contract.progress import GateResult
from finetune_contract.spec import GateSpec
from finetune_trainer.evaluation.gate import judge_gates, write_gate_name

FIGURES = {"test": {"f1": 0.9, "loss": 0.3, "recall/Not Spam": 0.8, "broken": math.nan}, "validation": {"f1": 0.95}}


@pytest.mark.parametrize(
    ("gate", "value", "passed"),
    [
        (GateSpec(metric="f1", min=0.9), 0.9, True),
        (GateSpec(metric="f1", min=0.91), 0.9, False),
        (GateSpec(metric="f1", split="validation", min=0.91), 0.95, True),
        (GateSpec(metric="loss", max=0.3), 0.3, True),
        (GateSpec(metric="loss", max=0.2), 0.3, False),
        (GateSpec(metric="f1", min=0.8, max=0.85), 0.9, False),
        (GateSpec(metric="recall/not_spam", min=0.8), 0.8, True),
        (GateSpec(metric="absent", min=-1.0), None, False),
    ],
)
def test_a_gate_compares_its_metric_with_its_bounds(gate: GateSpec, value: float | None, passed: bool) -> None:
    expected = GateResult(metric=gate.metric, split=gate.split, value=value, min=gate.min, max=gate.max, passed=passed)
    assert judge_gates([gate], FIGURES) == (expected,)


def test_what_is_not_a_number_passes_nothing() -> None:
    assert not judge_gates([GateSpec(metric="broken", min=-1e9)], FIGURES)[0].passed


def test_a_split_without_rows_passes_nothing() -> None:
    assert not judge_gates([GateSpec(metric="f1", min=0.0)], {})[0].passed


def test_names_are_written_as_a_gate_can_ask_for_them() -> None:
    assert write_gate_name("f1/Größe XL") == "f1/gr__e_xl"
