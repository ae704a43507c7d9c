"""The story of a run, as rank 0 tells it in the log: sentences and the figures that go with them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from finetune_contract.progress import GateResult, StepProgress
from finetune_contract.run import RunConfig
from finetune_trainer.publish.figures import format_count, format_duration, format_number, format_parameters

MOST_NAMED: Final = 4


def describe_start(run: RunConfig, rows: int, total_steps: int, parameters: int, trained: int) -> str:
    """What is trained, on what, by how many."""
    spec, resolved = run.spec, run.resolved
    processes = "1 process" if resolved.world_size == 1 else f"{resolved.world_size} processes"
    nodes = "1 node" if resolved.nodes == 1 else f"{resolved.nodes} nodes"
    batches = f"{resolved.micro_batch_size} rows a process at a time"
    weights = format_parameters(parameters)
    if trained != parameters:
        weights = f"{format_parameters(trained)} of {weights}"
    return (
        f"fine-tuning {spec.model.source} ({spec.task}, {spec.strategy.method}: {weights} parameters) on "
        f"{format_count(rows)} rows for {format_count(total_steps)} steps of {resolved.batch_size} rows ({batches}), "
        f"with {processes} on {nodes}, {resolved.device}, {resolved.precision}, ZeRO stage {resolved.zero_stage}"
    )


def describe_step(progress: StepProgress) -> str:
    """One log interval in a line."""
    parts = [f"step {progress.step}/{progress.total_steps}: loss {_format(progress.loss)}"]
    if progress.learning_rate is not None:
        parts.append(f"learning rate {progress.learning_rate:.3g}")
    if progress.tokens_per_second is not None:
        parts.append(f"{progress.tokens_per_second:,.0f} tokens/s")
    if progress.step_seconds is not None:
        parts.append(f"{progress.step_seconds:.3g} s a step")
    if progress.eta_seconds is not None and progress.step < progress.total_steps:
        parts.append(f"ETA {format_duration(progress.eta_seconds)}")
    return ", ".join(parts)


def describe_figures(metrics: Mapping[str, float], first: str) -> str:
    """The loss, the metric that chooses the best checkpoint and two more; the rest is among the line's figures."""
    whole = choose_whole(metrics)
    named = dict.fromkeys((*(name for name in ("loss", first) if name in metrics), *whole))
    return ", ".join(f"{name} {format_number(metrics[name])}" for name in list(named)[:MOST_NAMED])


def choose_whole(metrics: Mapping[str, float]) -> dict[str, float]:
    """The figures that are not of a single class."""
    return {name: value for name, value in metrics.items() if "/" not in name}


def describe_gate(gate: GateResult) -> str:
    """A gate, what was measured, and what came of it."""
    bounds = [f"at least {gate.min:g}"] if gate.min is not None else []
    bounds += [f"at most {gate.max:g}"] if gate.max is not None else []
    wish = f"{gate.split} {gate.metric} must be {' and '.join(bounds)}"
    return f"gate {'passed' if gate.passed else 'FAILED'}: {wish}, and it is {_format(gate.value)}"


def _format(value: float | None) -> str:
    return "unknown" if value is None else format_number(value)
