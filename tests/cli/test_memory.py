"""Memory by the published formulas, checked against numbers that the papers themselves give."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_cli.memory import (
    ActivationInputs,
    StateInputs,
    TransformerShape,
    estimate_activations,
    estimate_states,
)

BILLION = 10**9


def make_states(**fields: Any) -> StateInputs:
    defaults = {
        "parameters": 1000,
        "trained_parameters": 1000,
        "precision": "bf16",
        "processes": 1,
        "zero_stage": 0,
    }
    return StateInputs(**{**defaults, **fields})


def make_activations(**fields: Any) -> ActivationInputs:
    defaults = {
        "shape": TransformerShape(layers=2, hidden_size=8, vocabulary=100),
        "precision": "bf16",
        "rows": 4,
        "tokens": 16,
        "recompute": False,
        "keeps_logits": False,
    }
    return ActivationInputs(**{**defaults, **fields})


@pytest.mark.parametrize(
    ("stage", "gigabytes"),
    [(0, 120.0), (1, 31.4), (2, 16.6), (3, 1.88)],
)
def test_states_equal_figure_1_of_the_zero_paper(stage: int, gigabytes: float) -> None:
    inputs = make_states(
        parameters=75 * BILLION // 10, trained_parameters=75 * BILLION // 10, processes=64, zero_stage=stage
    )
    total = sum(part.bytes for part in estimate_states(inputs))
    assert total / BILLION == pytest.approx(gigabytes, rel=0.005)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [("weights", 2000, "device"), ("gradients", 2000, "device"), ("optimizer", 12000, "device")]),
        (
            {"precision": "fp32"},
            [("weights", 4000, "device"), ("gradients", 4000, "device"), ("optimizer", 8000, "device")],
        ),
        (
            {"trained_parameters": 10},
            [("weights", 2000, "device"), ("gradients", 20, "device"), ("optimizer", 120, "device")],
        ),
        (
            {"processes": 3, "zero_stage": 1},
            [("weights", 2000, "device"), ("gradients", 2000, "device"), ("optimizer", 4000, "device")],
        ),
        (
            {"processes": 3, "zero_stage": 3},
            [("weights", 667, "device"), ("gradients", 667, "device"), ("optimizer", 4000, "device")],
        ),
        (
            {"offload": "optimizer"},
            [("weights", 2000, "device"), ("gradients", 2000, "device"), ("optimizer", 12000, "host")],
        ),
        (
            {"offload": "parameters", "zero_stage": 3},
            [("weights", 2000, "host"), ("gradients", 2000, "device"), ("optimizer", 12000, "host")],
        ),
    ],
)
def test_states_by_precision_stage_and_offload(fields: dict[str, Any], expected: list[tuple[str, int, str]]) -> None:
    parts = estimate_states(make_states(**fields))
    assert [(part.name, part.bytes, part.place) for part in parts] == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [("activations", 34 * 4 * 16 * 8 * 2)]),
        ({"precision": "fp32"}, [("activations", 66 * 4 * 16 * 8 * 2)]),
        ({"recompute": True}, [("activations", 4 * 16 * 8 * (2 * 2 + 34))]),
        ({"keeps_logits": True}, [("activations", 34 * 4 * 16 * 8 * 2), ("logits", 4 * 4 * 16 * 100)]),
    ],
)
def test_activations_by_precision_recomputation_and_head(
    fields: dict[str, Any], expected: list[tuple[str, int]]
) -> None:
    parts = estimate_activations(make_activations(**fields))
    assert [(part.name, part.bytes) for part in parts] == expected


def test_every_part_names_its_source() -> None:
    parts = (*estimate_states(make_states()), *estimate_activations(make_activations(keeps_logits=True)))
    assert all("arXiv" in part.source and part.formula for part in parts)
