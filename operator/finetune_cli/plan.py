"""`finetune plan`: what a job resolves to, and what can be known of batch, steps and memory before it runs.

Gathers; the numbers come from the operator's resolve, the trainer's schedule and memory.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_cli.batch import Batch, share_out
from finetune_cli.job_file import read_one_job
from finetune_cli.local_job import parse_claims
from finetune_cli.memory import (
    ActivationInputs,
    MemoryPart,
    StateInputs,
    estimate_activations,
    estimate_snapshot,
    estimate_states,
)
from finetune_cli.model_facts import ModelFacts
from finetune_cli.output import OutputFormat, print_json
from finetune_cli.pod_memory import PodMemory, check_pod_memory
from finetune_cli.sources import count_training_rows, look_at_model, share_split_off
from finetune_contract.exits import CommandExit
from finetune_contract.run import RunConfig
from finetune_contract.spec import FineTuneJob

if TYPE_CHECKING:
    from finetune_trainer.worker.schedule import Schedule


@dataclass(frozen=True)
class Plan:
    """Everything that the plan shows."""

    run: RunConfig
    batch: Batch
    schedule: Schedule | None
    facts: ModelFacts | None
    trained_parameters: int
    tokens: int | None
    memory: tuple[MemoryPart, ...]
    snapshot_bytes: int
    """Bytes of one checkpoint on the first node; 0 while unknown."""
    warnings: tuple[str, ...]
    """What will not work well, and what to set."""
    unknown: tuple[str, ...]
    """What could not be known, and why."""

    def bytes_in(self, place: str) -> int:
        """Bytes of one process on the device or in host memory."""
        return sum(part.bytes for part in self.memory if part.place == place)

    def to_data(self) -> dict[str, Any]:
        """The plan for --output json."""
        resolved = self.run.resolved.to_data()
        reasons = resolved.pop("reasons")
        return {
            "job": self.run.job.name,
            "resolved": {name: {"value": value, "reason": reasons.get(name, "")} for name, value in resolved.items()},
            "batch": {
                "rows": self.batch.rows,
                "processes": self.batch.processes,
                "microBatchSize": self.batch.micro_batch_size,
                "accumulation": self.batch.accumulation,
                "empty": self.batch.empty,
            },
            "steps": None if self.schedule is None else _steps_data(self.schedule),
            "memory": None if not self.memory else self._memory_data(),
            "warnings": list(self.warnings),
            "unknown": list(self.unknown),
        }

    def _memory_data(self) -> dict[str, Any]:
        parameters = self.facts.parameters if self.facts else 0
        return {
            "parameters": parameters,
            "trainedParameters": self.trained_parameters,
            "deviceBytes": self.bytes_in("device"),
            "hostBytes": self.bytes_in("host"),
            "snapshotBytes": self.snapshot_bytes,
            "parts": [vars(part) for part in self.memory],
        }


def print_plan(file: Path, claims: list[str], output: OutputFormat) -> CommandExit:
    """Print the plan of a file's job. Raises InvalidError."""
    plan = make_plan(read_one_job(file), parse_claims(claims), Path.cwd())
    if output is OutputFormat.JSON:
        print_json(plan.to_data())
    else:
        from finetune_cli.plan_text import print_plan_text

        print_plan_text(plan)
    return CommandExit.DONE


def make_plan(job: FineTuneJob, claims: Mapping[str, Path], here: Path) -> Plan:
    """The plan of a valid job; looks at model and rows where they can be reached."""
    from finetune_operator.plan.resolve import build_run_config

    run = build_run_config(job)
    unknown: list[str] = []
    facts, why = look_at_model(job.spec.model.source, claims, here)
    if facts is None:
        unknown.append(f"memory: {why}")
    trained = _count_trained(run, facts)
    tokens = _choose_tokens(job, facts)
    memory = _estimate_memory(run, facts, trained, tokens, unknown)
    snapshot_bytes = _estimate_snapshot(run, facts, trained)
    return Plan(
        run=run,
        batch=share_out(run.resolved),
        schedule=_make_schedule(run, claims, here, unknown),
        facts=facts,
        trained_parameters=trained,
        tokens=tokens,
        memory=memory,
        snapshot_bytes=snapshot_bytes,
        warnings=tuple(_check_pod(run, memory, snapshot_bytes)),
        unknown=tuple(unknown),
    )


def _make_schedule(run: RunConfig, claims: Mapping[str, Path], here: Path, unknown: list[str]) -> Schedule | None:
    from finetune_trainer.worker.schedule import make_schedule

    source = run.spec.data.train
    rows = count_training_rows(source, claims, here)
    if rows is None:
        unknown.append(f"steps: the rows of {source.source} are counted when data is prepared")
        return None
    kept = rows - round(rows * share_split_off(run.spec))
    return make_schedule(run, max(kept, 1))


def _choose_tokens(job: FineTuneJob, facts: ModelFacts | None) -> int | None:
    """Tokens of the longest row, as data preparation chooses them; None where the model says no limit."""
    if job.spec.training.max_length is not None or facts is None or not facts.length_limits:
        return job.spec.training.max_length
    from finetune_trainer.data.model_files import LONGEST_DERIVED

    return min(*facts.length_limits, LONGEST_DERIVED)


def _count_trained(run: RunConfig, facts: ModelFacts | None) -> int:
    if facts is None:
        return 0
    if run.spec.strategy.method != "lora":
        return facts.parameters
    from finetune_contract.spec import LoraOptions

    options = run.spec.strategy.lora or LoraOptions()
    return facts.lora_parameters(options.rank, options.targets)


def _estimate_memory(
    run: RunConfig, facts: ModelFacts | None, trained: int, tokens: int | None, unknown: list[str]
) -> tuple[MemoryPart, ...]:
    if facts is None:
        return ()
    parts: list[MemoryPart] = []
    resolved, training = run.resolved, run.spec.training
    if facts.parameters:
        parts += estimate_states(_describe_states(run, facts, trained))
    else:
        unknown.append("memory of weights: the model has no safetensors file that would tell its parameters")
    if facts.shape is None or tokens is None:
        unknown.append("memory of activations: config.json names no layers, width or length that this plan knows")
        return tuple(parts)
    activations = ActivationInputs(
        shape=facts.shape,
        precision=resolved.precision,
        rows=resolved.micro_batch_size,
        tokens=tokens,
        recompute=training.gradient_checkpointing,
        keeps_logits=run.spec.task == "text-generation",
    )
    return (*parts, *estimate_activations(activations))


def _describe_states(run: RunConfig, facts: ModelFacts, trained: int) -> StateInputs:
    return StateInputs(
        parameters=facts.parameters,
        trained_parameters=trained,
        precision=run.resolved.precision,
        processes=run.resolved.world_size,
        zero_stage=run.resolved.zero_stage,
        offload=run.spec.training.deepspeed.offload,
    )


def _estimate_snapshot(run: RunConfig, facts: ModelFacts | None, trained: int) -> int:
    if facts is None or not facts.parameters:
        return 0
    return estimate_snapshot(_describe_states(run, facts, trained), run.resolved.workers_per_node)


def _check_pod(run: RunConfig, memory: tuple[MemoryPart, ...], snapshot_bytes: int) -> list[str]:
    from finetune_operator.plan.quantities import parse_bytes

    limit = run.spec.resources.memory
    on_host = sum(part.bytes for part in memory if part.place == "host" or run.resolved.device == "cpu")
    return check_pod_memory(
        PodMemory(
            snapshot_bytes=snapshot_bytes,
            workers=run.resolved.workers_per_node,
            process_bytes=on_host,
            shared_bytes=run.resolved.shared_memory_bytes,
            limit_bytes=parse_bytes(limit) if limit else None,
        )
    )


def _steps_data(schedule: Schedule) -> dict[str, int]:
    return {
        "trainingRows": schedule.rows,
        "total": schedule.total_steps,
        "evaluations": count_evaluations(schedule),
    }


def count_evaluations(schedule: Schedule) -> int:
    """Evaluations on validation rows during training, each of them a checkpoint; the last step always has one."""
    before_last = schedule.total_steps - 1
    if schedule.evaluate_every_steps is not None:
        return before_last // schedule.evaluate_every_steps + 1
    if schedule.evaluate_every_epochs is None:
        return 1
    periods = int(Fraction(schedule.rows_consumed(before_last), schedule.rows) / schedule.evaluate_every_epochs)
    return min(periods, before_last) + 1
