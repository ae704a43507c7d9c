"""The plan as people read it: tables on a terminal, the same words without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from finetune_cli.output import data
from finetune_cli.plan import Plan, count_evaluations
from finetune_cli.pod_memory import format_bytes
from finetune_contract.names import KIND

if TYPE_CHECKING:
    from finetune_trainer.worker.schedule import Schedule


def print_plan_text(plan: Plan) -> None:
    """Print the plan to stdout."""
    out, spec = data(), plan.run.spec
    out.print(f"[bold]{KIND} {plan.run.job.name}[/]: {spec.task} by {spec.strategy.method} on {spec.model.source}")
    out.print()
    out.print(_resolved_table(plan))
    out.print()
    out.print(f"Batch: {plan.batch.describe()}")
    if plan.schedule is not None:
        out.print(f"Steps: {_describe_steps(plan.schedule)}")
    if plan.memory:
        out.print()
        out.print(_memory_table(plan))
        out.print("Not counted: the framework's own memory, communication buffers and fragmentation.")
    if plan.snapshot_bytes:
        out.print(_describe_snapshots(plan))
    for sentence in plan.warnings:
        out.print(f"Warning: {sentence}", style="yellow", markup=False)
    for sentence in plan.unknown:
        out.print(f"Not known: {sentence}")


def _describe_snapshots(plan: Plan) -> str:
    return (
        f"Checkpoints: {format_bytes(plan.snapshot_bytes)} on a node; two of them,"
        f" {format_bytes(2 * plan.snapshot_bytes)}, wait in shared memory"
        f" ({format_bytes(plan.run.resolved.shared_memory_bytes)}) for their upload"
    )


def _resolved_table(plan: Plan) -> Table:
    table = Table("Field", "Value", "Why", box=box.SIMPLE_HEAD, pad_edge=False)
    resolved = plan.run.resolved.to_data()
    for name, reason in resolved.pop("reasons").items():
        table.add_row(name, _format_value(name, resolved.get(name)), reason)
    return table


def _format_value(name: str, value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "-", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return ", ".join(f"{key}: {text}" for key, text in value.items())
    return (
        format_bytes(float(str(value)))
        if name.endswith("Bytes")
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def _describe_steps(schedule: Schedule) -> str:
    return (
        f"{schedule.total_steps:,} for {schedule.rows:,} training rows before cleaning,"
        f" with {count_evaluations(schedule)} evaluations on the way"
    )


def _memory_table(plan: Plan) -> Table:
    where = "GPU" if plan.run.resolved.device == "cuda" else "process"
    title = f"Memory of one {where}"
    table = Table(
        "Part", "Size", "Where", "Formula (bytes)", "Source", title=title, box=box.SIMPLE_HEAD, pad_edge=False
    )
    table.title_justify = "left"
    for part in plan.memory:
        place = where if part.place == "device" else "host memory"
        table.add_row(part.name, format_bytes(part.bytes), place, part.formula, part.source)
    table.add_section()
    table.add_row("together", format_bytes(plan.bytes_in("device")), where, "", "")
    if plan.bytes_in("host"):
        table.add_row("together", format_bytes(plan.bytes_in("host")), "host memory", "", "")
    return table
