"""Builds the Report from the documents of a run. Pure: documents in, one document out."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

from finetune_contract.names import Reason
from finetune_contract.progress import CheckpointRecord, EvaluationResult, GateResult, Metrics, Published
from finetune_contract.report import CurvePoint, Report
from finetune_contract.run import RunConfig
from finetune_trainer.publish.figures import format_number, hide_secrets, title_metric
from finetune_trainer.publish.inputs import Inputs

MAX_POINTS = 1000
"""Points that a curve of the report holds at most."""


def build_report(inputs: Inputs, published: Published | None) -> Report:
    """The report of a finished run; `published` is kept only where every gate was passed."""
    evaluation = inputs.final.evaluation
    succeeded = all(gate.passed for gate in evaluation.gate)
    return Report(
        task=inputs.run.spec.task,
        job=inputs.run.job,
        model=hide_secrets(inputs.run.spec.model.source),
        model_revision=inputs.model_revision,
        succeeded=succeeded,
        reason=Reason.PUBLISHED if succeeded else Reason.GATE_FAILED,
        message=describe_verdict(evaluation.gate),
        metrics=collect_metrics(evaluation),
        gate=tuple(drop_infinite_gate(gate) for gate in evaluation.gate),
        published=published if succeeded else None,
        best_step=inputs.final.best_step,
        total_steps=inputs.final.total_steps,
        attempt=inputs.attempt,
        resolved=inputs.run.resolved,
        spec=shorten_spec(inputs.run),
        config_digest=digest_config(inputs.run),
        data=inputs.prepared.summary,
        checkpoints=tuple(judge_checkpoint(record, inputs.final.best_step, succeeded) for record in inputs.checkpoints),
        curves=thin_curves(inputs.final.curves, inputs.final.best_step),
        confusion=inputs.final.confusion,
        worst_examples=tuple(row for row in inputs.final.worst_examples if math.isfinite(row.loss)),
        parameters_total=inputs.final.parameters_total,
        parameters_trained=inputs.final.parameters_trained,
        seconds=inputs.final.seconds,
        program=inputs.run.program,
        versions=({"finetune-operator": inputs.run.program} if inputs.run.program else {}) | inputs.final.versions,
    )


def describe_verdict(gates: Sequence[GateResult]) -> str:
    """One sentence: what was reached or missed, and what became of the model."""
    missed = [describe_gate(gate) for gate in gates if not gate.passed]
    if missed:
        return f"Not published: {'; '.join(missed)}."
    if not gates:
        return "Published; no gate was set."
    return f"Published: {'; '.join(describe_gate(gate) for gate in gates)}."


def describe_gate(gate: GateResult) -> str:
    """A gate in words: Accuracy on test is 0.9312, below the minimum 0.9500."""
    subject = f"{title_metric(gate.metric)} on {gate.split}"
    if gate.value is None:
        return f"{subject} was not measured"
    value = f"{subject} is {format_number(gate.value)}"
    if gate.passed:
        bounds = [f"at least {format_number(gate.min)}"] if gate.min is not None else []
        bounds += [f"at most {format_number(gate.max)}"] if gate.max is not None else []
        return f"{value} ({' and '.join(bounds)} was asked for)"
    if gate.min is not None and not gate.value >= gate.min:
        return f"{value}, below the minimum {format_number(gate.min)}"
    return f"{value}, above the maximum {format_number(gate.max)}" if gate.max is not None else value


def collect_metrics(evaluation: EvaluationResult) -> dict[str, Metrics]:
    """The figures by split; a split without figures is absent, and so is a figure that is not a number."""
    splits = {"validation": evaluation.validation, "test": evaluation.test, "baseline": evaluation.baseline}
    finite = {split: drop_infinite(metrics) for split, metrics in splits.items()}
    return {split: metrics for split, metrics in finite.items() if metrics}


def drop_infinite(metrics: Metrics) -> Metrics:
    """The figures that JSON can hold."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def drop_infinite_gate(gate: GateResult) -> GateResult:
    """The gate without a value that JSON cannot hold."""
    return gate if gate.value is None or math.isfinite(gate.value) else gate.model_copy(update={"value": None})


def judge_checkpoint(record: CheckpointRecord, best_step: int, succeeded: bool) -> CheckpointRecord:
    """The checkpoint as the ledger will hold it when the run has ended: the judged one is promoted or rejected."""
    update: dict[str, object] = {"metrics": drop_infinite(record.metrics)}
    if record.step == best_step and record.metrics:
        update["state"] = "Promoted" if succeeded else "Rejected"
    return record.model_copy(update=update)


def shorten_spec(run: RunConfig) -> dict[str, Any]:
    """The spec without defaults and without what may be a secret: queries of URLs, values of environment variables."""
    spec = run.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    for source in (spec["model"], *spec["data"].values()):
        if isinstance(source, dict) and "source" in source:
            source["source"] = hide_secrets(source["source"])
    for variable in spec.get("pod", {}).get("env", ()):
        variable.pop("value", None)
    return spec


def digest_config(run: RunConfig) -> str:
    """SHA-256 of the whole RunConfig as canonical JSON."""
    text = json.dumps(run.to_data(), sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def thin_curves(curves: dict[str, tuple[CurvePoint, ...]], best_step: int) -> dict[str, tuple[CurvePoint, ...]]:
    """Every curve with at most MAX_POINTS finite points, the best step among them."""
    finite = {name: [point for point in points if math.isfinite(point.value)] for name, points in curves.items()}
    return {name: thin_curve(points, best_step) for name, points in finite.items() if points}


def thin_curve(points: Sequence[CurvePoint], best_step: int) -> tuple[CurvePoint, ...]:
    """The lowest and the highest point of every stretch, so that no spike is lost; both ends and the best step stay."""
    if len(points) <= MAX_POINTS:
        return tuple(points)
    size = math.ceil(len(points) / (MAX_POINTS // 2 - 2))
    kept = {0, len(points) - 1} | {index for index, point in enumerate(points) if point.step == best_step}
    for start in range(0, len(points), size):
        stretch = range(start, min(start + size, len(points)))
        kept.add(min(stretch, key=lambda index: points[index].value))
        kept.add(max(stretch, key=lambda index: points[index].value))
    return tuple(points[index] for index in sorted(kept))
