"""Builders of finished runs: every default is a valid, realistic document; a test changes what it is about."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from finetune_contract.progress import CheckpointRecord, DataPart, DataSummary, EvaluationResult, GateResult, Published
from finetune_contract.report import ConfusionMatrix, CurvePoint, Report, WorstExample
from finetune_contract.run import JobIdentity, Resolved, RunConfig
from finetune_contract.spec import FineTuneJobSpec
from finetune_trainer.data.prepared import PreparedData, SplitRecord
from finetune_trainer.publish.inputs import Inputs
from finetune_trainer.publish.report import build_report
from finetune_trainer.results import FinalEvaluation

URI = "s3://ml/models/spam-0a1b2c3d/published"
PUBLISHED = Published(uri=URI, digest="sha256:" + "7" * 64)
VERSIONS = {"torch": "2.13.0", "transformers": "5.23.0", "deepspeed": "0.19.8"}


def make_spec(**changes: Any) -> dict[str, Any]:
    """Spec of the spam job."""
    return {
        "task": "text-classification",
        "model": {"source": "hf://sentence-transformers/all-MiniLM-L6-v2"},
        "data": {"train": {"source": "s3://ml/spam/train.jsonl"}, "columns": {"text": "body"}},
        "training": {"epochs": 3.0, "batchSize": 64, "learningRate": 1e-4},
        "evaluation": {"everySteps": 20, "gate": [{"metric": "f1", "min": 0.95}, {"metric": "accuracy", "min": 0.94}]},
        "output": {"destination": "s3://ml/models"},
        "resources": {"nodes": 2},
    } | changes


def make_run(spec: dict[str, Any] | None = None, **changes: Any) -> RunConfig:
    """RunConfig of the spam job."""
    resolved: dict[str, Any] = {
        "world_size": 2,
        "nodes": 2,
        "workers_per_node": 1,
        "device": "cpu",
        "batch_size": 64,
        "micro_batch_size": 16,
        "gradient_accumulation_steps": 2,
        "evaluation_batch_size": 32,
        "epochs": 3.0,
        "max_steps": None,
        "learning_rate": 1e-4,
        "precision": "fp32",
        "zero_stage": 2,
        "metric": "f1",
        "greater_is_better": True,
        "evaluate_every_steps": 20,
        "evaluate_every_epochs": None,
        "prepare": "inline",
        "columns": {"text": "body", "label": "label"},
        "shared_memory_bytes": 1 << 30,
        "reasons": {
            "microBatchSize": "32 rows a process in one step; at most 16 at a time for text-classification",
            "precision": "default on CPUs",
            "zeroStage": "several processes share optimizer state and gradients",
            "metric": "default of task text-classification",
            "worldSize": "resources.nodes 2 x worker processes of each 1",
            "prepare": "data.prepare auto: no GPU would have to wait",
            "gradientAccumulationSteps": "32 rows a process in micro-batches of 16",
            "evaluationBatchSize": "twice the micro-batch: no gradients are kept",
            "workersPerNode": "one worker process on a node without GPUs",
            "device": "resources.gpusPerNode is 0",
        },
    }
    return RunConfig(
        job=JobIdentity(namespace="research", name="spam", uid="0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"),
        spec=FineTuneJobSpec.from_data(spec or make_spec()),
        resolved=Resolved(**(resolved | changes)),
        program="0.1.0",
    )


def make_data(**changes: Any) -> DataSummary:
    """Spam mail after preparation."""
    fields: dict[str, Any] = {
        "fingerprint": "sha256:" + "f" * 64,
        "parts": {
            "train": DataPart(
                rows=4384,
                read=5968,
                dropped={"duplicate": 391, "empty": 54, "in_validation_or_test": 42},
                tokens=982_144,
                targets=4384,
                truncated=1207,
            ),
            "validation": DataPart(rows=548, tokens=121_903, targets=548, truncated=150, split_off=True),
            "test": DataPart(rows=549, tokens=124_011, targets=549, truncated=148, split_off=True),
        },
        "labels": ("ham", "spam"),
        "max_length": 256,
    }
    return DataSummary(**(fields | changes))


def make_prepared() -> PreparedData:
    """prepared.json of the spam data."""
    splits = {
        part: SplitRecord(rows=rows, digest=f"sha256:{rows:064x}")
        for part, rows in (("validation", 548), ("test", 549))
    }
    return PreparedData(summary=make_data(), splits=splits)


def make_curves(steps: int = 207, every: int = 20) -> dict[str, tuple[CurvePoint, ...]]:
    """Curves as a run of so many steps leaves them."""

    def point(step: int, value: float) -> CurvePoint:
        return CurvePoint(step=step, value=value)

    def fall(step: int) -> float:
        return 0.08 + 0.6 * math.exp(-step / 30)

    def wave(step: int) -> float:
        return math.sin(step * 12.9898) * math.cos(step * 4.1414)

    evaluated = [*range(every, steps, every), steps]
    peak = max(1, steps // 10)
    return {
        "train/loss": tuple(point(step, fall(step) * (1 + 0.35 * wave(step))) for step in range(1, steps + 1)),
        "train/learning_rate": tuple(
            point(step, 1e-4 * min(step / peak, (steps - step) / (steps - peak))) for step in range(1, steps + 1)
        ),
        "validation/loss": tuple(point(step, fall(step) + 0.02 + 0.00015 * step) for step in evaluated),
        "validation/f1": tuple(
            point(step, 0.969 - 0.4 * math.exp(-step / 25) - abs(step - 160) * 4e-5) for step in evaluated
        ),
        "validation/accuracy": tuple(
            point(step, 0.976 - 0.3 * math.exp(-step / 25) - abs(step - 160) * 4e-5) for step in evaluated
        ),
    }


def make_evaluation(**changes: Any) -> EvaluationResult:
    """Figures that pass both gates."""
    test = {
        "accuracy": 0.9744990892531876,
        "f1": 0.9713417064812344,
        "f1_weighted": 0.9744102930011027,
        "precision": 0.9738281250000001,
        "recall": 0.9689837008628955,
        "loss": 0.09123456789,
        "precision/ham": 0.9757412398921833,
        "precision/spam": 0.9719101123595506,
        "recall/ham": 0.9863760217983651,
        "recall/spam": 0.9505494505494505,
        "f1/ham": 0.981029810298103,
        "f1/spam": 0.9611111111111111,
    }
    fields: dict[str, Any] = {
        "validation": {
            "accuracy": 0.9762773722627737,
            "f1": 0.9690012345678901,
            "f1_weighted": 0.9761901234567891,
            "precision": 0.9712209302325582,
            "recall": 0.9668874172185431,
            "loss": 0.0887766554433,
        },
        "test": test,
        "baseline": {
            "accuracy": 0.6684881602914389,
            "f1": 0.4006550218340611,
            "f1_weighted": 0.5356792144026187,
            "precision": 0.3342440801457195,
            "recall": 0.5,
            "loss": 0.6931234567,
        },
        "gate": (
            GateResult(metric="f1", split="test", value=test["f1"], min=0.95, passed=True),
            GateResult(metric="accuracy", split="test", value=test["accuracy"], min=0.94, passed=True),
        ),
        "step": 160,
    }
    return EvaluationResult(**(fields | changes))


def make_failed_evaluation() -> EvaluationResult:
    """Figures of which one misses its gate."""
    passed = make_evaluation()
    return passed.model_copy(
        update={
            "gate": (
                GateResult(metric="f1", split="test", value=passed.test["f1"], min=0.99, passed=False),
                GateResult(metric="accuracy", split="test", value=passed.test["accuracy"], min=0.94, passed=True),
            )
        }
    )


def make_final(**changes: Any) -> FinalEvaluation:
    """What rank 0 left of the spam run."""
    fields: dict[str, Any] = {
        "evaluation": make_evaluation(),
        "best_step": 160,
        "total_steps": 207,
        "curves": make_curves(),
        "confusion": ConfusionMatrix(labels=("ham", "spam"), counts=((362, 5), (9, 173))),
        "worst_examples": (
            WorstExample(
                row=4211,
                text="Re: your order\nThank you for the <b>confirmation</b> <script>alert(1)</script>",
                expected="ham",
                predicted="spam",
                loss=6.4321,
            ),
            WorstExample(row=87, text="Meeting moved to noon. " * 20, expected="spam", predicted="ham", loss=5.9876),
        ),
        "parameters_total": 22_713_986,
        "parameters_trained": 22_713_986,
        "seconds": 843.2,
        "versions": VERSIONS,
    }
    return FinalEvaluation(**(fields | changes))


def make_checkpoints() -> tuple[CheckpointRecord, ...]:
    """The ledger after keepLast and keepBest."""
    return tuple(
        CheckpointRecord(
            step=step,
            attempt=1,
            state="Evaluated",
            uri=f"s3://ml/models/spam-0a1b2c3d/checkpoints/step-{step:08d}-a1",
            digest=f"sha256:{step:064x}",
            metrics={"f1": f1, "loss": 0.1},
            size_bytes=272_640_000,
            at=1_795_000_000.0 + step,
        )
        for step, f1 in ((160, 0.9683), (200, 0.9668), (207, 0.9671))
    )


def make_inputs(**changes: Any) -> Inputs:
    """A finished spam run."""
    fields: dict[str, Any] = {
        "run": make_run(),
        "final": make_final(),
        "prepared": make_prepared(),
        "model_revision": "8b3219a92973c328a8e22fadcfa821b5dc75636a",
        "checkpoints": make_checkpoints(),
        "attempt": 1,
    }
    return Inputs(**(fields | changes))


def make_chat_inputs() -> Inputs:
    """A finished LoRA run of a chat model: no classes, perplexity before and after."""
    spec = make_spec(
        task="text-generation",
        model={"source": "s3://ml/base/smollm2"},
        data={"train": {"source": "s3://ml/chat/train.jsonl"}, "test": {"source": "s3://ml/chat/test.jsonl"}},
        strategy={"method": "lora"},
        training={"maxSteps": 120, "batchSize": 16},
        evaluation={"everySteps": 20, "gate": [{"metric": "perplexity", "max": 12.0}]},
    )
    run = make_run(
        spec,
        batch_size=16,
        epochs=None,
        max_steps=120,
        learning_rate=2e-4,
        metric="loss",
        greater_is_better=False,
        columns={"messages": "messages"},
        reasons={"learningRate": "default of strategy lora: few new weights"},
    )
    curves = make_curves(120)
    losses = tuple(CurvePoint(step=point.step, value=2.0 + 0.9 * point.value) for point in curves["validation/loss"])
    perplexities = tuple(CurvePoint(step=point.step, value=math.exp(point.value)) for point in losses)
    final = make_final(
        evaluation=EvaluationResult(
            validation={"loss": 2.1101, "perplexity": 8.2491, "token_accuracy": 0.5502},
            test={"loss": 2.1312, "perplexity": 8.4250, "token_accuracy": 0.5467},
            baseline={"loss": 3.2011, "perplexity": 24.5596, "token_accuracy": 0.4313},
            gate=(GateResult(metric="perplexity", split="test", value=8.4250, max=12.0, passed=True),),
            step=120,
        ),
        best_step=120,
        total_steps=120,
        curves={
            "train/loss": tuple(
                CurvePoint(step=point.step, value=2.0 + 1.5 * point.value) for point in curves["train/loss"]
            ),
            "train/learning_rate": curves["train/learning_rate"],
            "validation/loss": losses,
            "validation/perplexity": perplexities,
            "validation/token_accuracy": tuple(
                CurvePoint(step=point.step, value=0.56 - 0.05 * point.value) for point in losses
            ),
        },
        confusion=None,
        worst_examples=(),
        parameters_total=83_000_000,
        parameters_trained=1_900_000,
    )
    data = make_data(
        parts={
            "train": DataPart(rows=1600, read=2000, dropped={"duplicate": 200}, tokens=500_000, targets=210_000),
            "validation": DataPart(rows=200, tokens=50_000, targets=21_000, split_off=True),
            "test": DataPart(rows=300, read=300, tokens=80_000, targets=34_000),
        },
        labels=(),
        max_length=1024,
    )
    return make_inputs(run=run, final=final, prepared=PreparedData(summary=data), model_revision="", checkpoints=())


def make_report(inputs: Inputs | None = None) -> Report:
    """Report of a finished run."""
    return build_report(inputs or make_inputs(), PUBLISHED)


def write_inputs(inputs: Inputs, folder: Path) -> list[str]:
    """Lay the documents out as the agent does; returns the publisher's arguments."""
    documents = {
        "run.json": inputs.run.to_data(),
        "evaluation.json": inputs.final.to_data(),
        "data/prepared.json": inputs.prepared.to_data(),
        "ledger.json": {"checkpoints": [record.to_data() for record in inputs.checkpoints]},
        "data/split.json": {"validation": [3, 14], "test": [15, 92]},
        "export/config.json": {"model_type": "bert"},
    }
    for name, document in documents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(document))
    options = {
        "run": "run.json",
        "evaluation": "evaluation.json",
        "data": "data",
        "export": "export",
        "ledger": "ledger.json",
        "output": "report",
    }
    paths = [part for name, path in options.items() for part in (f"--{name}", str(folder / path))]
    revision = ("--model-revision", inputs.model_revision) if inputs.model_revision else ()
    return [*paths, *revision, "--attempt", str(inputs.attempt), "--published-uri", URI]
