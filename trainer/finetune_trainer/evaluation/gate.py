"""The gate: what a model must reach to be published. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from finetune_contract.progress import GateResult
from finetune_contract.spec.evaluation import GateSpec


def judge_gates(gates: Sequence[GateSpec], figures: Mapping[str, Mapping[str, float]]) -> tuple[GateResult, ...]:
    """Each gate with its measured value; `figures` are metrics by split.

    A metric that was not measured, or is not a number, passes nothing.
    """
    return tuple(_judge(gate, find_metric(gate.metric, figures.get(gate.split, {}))) for gate in gates)


def find_metric(name: str, metrics: Mapping[str, float]) -> float | None:
    """A metric by its name, or by its name as a gate can write it (lower case, `_` for other characters)."""
    if name in metrics:
        return metrics[name]
    return next((value for known, value in metrics.items() if write_gate_name(known) == name), None)


def write_gate_name(metric: str) -> str:
    """The name by which a gate can ask for a metric: `f1/Not Spam` is `f1/not_spam`."""
    return re.sub(r"[^a-z0-9_./@-]", "_", metric.lower())


def _judge(gate: GateSpec, value: float | None) -> GateResult:
    passed = (
        value is not None
        and math.isfinite(value)
        and (gate.min is None or value >= gate.min)
        and (gate.max is None or value <= gate.max)
    )
    return GateResult(metric=gate.metric, split=gate.split, value=value, min=gate.min, max=gate.max, passed=passed)
