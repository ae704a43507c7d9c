"""What is derived from a job, and the reason that goes with it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic.alias_generators import to_camel

from finetune_contract.run import JobIdentity, Resolved, RunConfig
from finetune_operator.plan.metric_order import is_greater_better
from finetune_operator.plan.quantities import parse_bytes
from finetune_operator.plan.resolve import build_run_config, resolve
from finetune_operator.version import VERSION
from tests.control_plane.make import UID, make_accepted_job

GPUS = {"resources": {"nodes": 2, "gpusPerNode": 8}}
TEXT_GENERATION = {"task": "text-generation", "data": {"columns": {"messages": "chat"}}}


def test_short_job_is_resolved_as_a_whole() -> None:
    resolved = resolve(make_accepted_job())
    assert resolved.model_copy(update={"reasons": {}}) == Resolved(
        world_size=1,
        nodes=1,
        workers_per_node=1,
        device="cpu",
        batch_size=32,
        micro_batch_size=16,
        gradient_accumulation_steps=2,
        evaluation_batch_size=32,
        epochs=3.0,
        max_steps=None,
        learning_rate=2e-5,
        precision="fp32",
        zero_stage=0,
        metric="f1",
        greater_is_better=True,
        evaluate_every_steps=None,
        evaluate_every_epochs=1.0,
        prepare="inline",
        columns={"text": "text", "label": "label"},
        shared_memory_bytes=1 << 30,
    )


@pytest.mark.parametrize(
    ("spec", "field", "value", "reason"),
    [
        (GPUS, "world_size", 16, "resources.nodes 2 x worker processes of each 8"),
        (GPUS, "device", "cuda", "resources.gpusPerNode is above 0"),
        (GPUS, "workers_per_node", 8, "resources.gpusPerNode: one worker process a GPU"),
        ({"resources": {"processesPerNode": 2}}, "workers_per_node", 2, "resources.processesPerNode"),
        (GPUS, "micro_batch_size", 2, "2 rows a process in one step fit at once"),
        ({"training": {"microBatchSize": 8}}, "micro_batch_size", 8, "training.microBatchSize"),
        (
            TEXT_GENERATION,
            "micro_batch_size",
            4,
            "32 rows a process in one step; at most 4 at a time for text-generation",
        ),
        (TEXT_GENERATION, "gradient_accumulation_steps", 8, "32 rows a process in micro-batches of 4"),
        (
            {"resources": {"nodes": 3}, "training": {"batchSize": 100}},
            "gradient_accumulation_steps",
            3,
            "34 rows a process in micro-batches of 16",
        ),
        (
            {"resources": {"nodes": 3}, "training": {"batchSize": 2}},
            "micro_batch_size",
            1,
            "1 rows a process in one step fit at once",
        ),
        ({"evaluation": {"batchSize": 7}}, "evaluation_batch_size", 7, "evaluation.batchSize"),
        ({"training": {"epochs": 1.5}}, "epochs", 1.5, "training.epochs"),
        ({"training": {"maxSteps": 9}}, "epochs", None, "training.maxSteps ends the training"),
        ({"training": {"maxSteps": 9}}, "max_steps", 9, "training.maxSteps"),
        ({"training": {"learningRate": 0.1}}, "learning_rate", 0.1, "training.learningRate"),
        (
            {"strategy": {"method": "lora"}},
            "learning_rate",
            2e-4,
            "default of strategy lora: few new weights",
        ),
        ({"training": {"precision": "bf16"}}, "precision", "bf16", "training.precision"),
        (GPUS, "precision", "bf16", "default on GPUs"),
        ({"training": {"deepspeed": {"zeroStage": 3}}}, "zero_stage", 3, "training.deepspeed.zeroStage"),
        (GPUS, "zero_stage", 2, "several processes share optimizer state and gradients"),
        ({"evaluation": {"metric": "loss"}}, "metric", "loss", "evaluation.metric"),
        ({"evaluation": {"metric": "loss"}}, "greater_is_better", False, "a lower loss is a better model"),
        (TEXT_GENERATION, "metric", "loss", "default of task text-generation"),
        ({"evaluation": {"everySteps": 4}}, "evaluate_every_steps", 4, "evaluation.everySteps"),
        (
            {"evaluation": {"everySteps": 4}},
            "evaluate_every_epochs",
            None,
            "evaluations are counted in steps",
        ),
        ({"evaluation": {"everyEpochs": 0.5}}, "evaluate_every_epochs", 0.5, "evaluation.everyEpochs"),
        (GPUS, "prepare", "pod", "data.prepare auto: GPUs do not wait for data"),
        ({"data": {"prepare": "pod"}}, "prepare", "pod", "data.prepare"),
        (TEXT_GENERATION, "columns", {"messages": "chat"}, "data.columns names messages"),
        (
            {"task": "text-generation", "data": {"columns": {"completion": "answer"}}},
            "columns",
            {"prompt": "prompt", "completion": "answer"},
            "data.columns names completion",
        ),
        (
            {"data": {"columns": {"textPair": "b", "text": "a"}}},
            "columns",
            {"text": "a", "label": "label", "textPair": "b"},
            "data.columns names text, textPair",
        ),
        ({"pod": {"sharedMemory": "2Gi"}}, "shared_memory_bytes", 2 << 30, "pod.sharedMemory"),
        (
            {"resources": {"memory": "8Gi"}},
            "shared_memory_bytes",
            4 << 30,
            "half of resources.memory, which it counts against",
        ),
    ],
)
def test_value_is_derived_with_its_reason(spec: dict[str, Any], field: str, value: object, reason: str) -> None:
    resolved = resolve(make_accepted_job(spec))
    assert (getattr(resolved, field), resolved.reasons[to_camel(field)]) == (value, reason)


def test_every_value_has_a_reason() -> None:
    fields = {to_camel(name) for name in Resolved.model_fields} - {"reasons"}
    assert set(resolve(make_accepted_job()).reasons) == fields


def test_run_config_holds_the_whole_task() -> None:
    job = make_accepted_job(GPUS)
    assert build_run_config(job) == RunConfig(
        job=JobIdentity(namespace="ml", name="spam", uid=UID), spec=job.spec, resolved=resolve(job), program=VERSION
    )


def test_run_config_keeps_what_was_resolved_before() -> None:
    earlier = resolve(make_accepted_job(GPUS))
    assert build_run_config(make_accepted_job(), earlier).resolved == earlier


@pytest.mark.parametrize(
    ("metric", "better"),
    [
        ("accuracy", True),
        ("f1_weighted", True),
        ("f1/spam", True),
        ("loss", False),
        ("rmse", False),
        ("test/loss", False),
    ],
)
def test_direction_of_a_metric(metric: str, better: bool) -> None:
    assert is_greater_better(metric) is better


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [("1500m", 1), ("10", 10), ("1.5k", 1500), ("2M", 2_000_000), ("1Ki", 1024), ("2Gi", 2 << 30)],
)
def test_quantity_is_read_in_bytes(quantity: str, expected: int) -> None:
    assert parse_bytes(quantity) == expected
