"""Builders of the contract's documents: the default is a valid one, a test writes only what it is about."""

from __future__ import annotations

import copy
from typing import Any, Literal

from finetune_contract.exits import FailureClass
from finetune_contract.names import API_VERSION, CONDITION_RUNNING, KIND
from finetune_contract.progress import (
    CheckpointRecord,
    DataPart,
    DataSummary,
    EvaluationResult,
    Failure,
    GateResult,
    Published,
    Straggler,
)
from finetune_contract.run import Resolved
from finetune_contract.spec import FineTuneJob
from finetune_contract.status import (
    AttemptsFolded,
    AttemptStatus,
    BestCheckpoint,
    Condition,
    EndedAttempts,
    FineTuneJobStatus,
    ProgressStatus,
    UsageStatus,
)

Data = dict[str, Any]

_SPEC: Data = {
    "task": "text-classification",
    "model": {"source": "hf://sentence-transformers/all-MiniLM-L6-v2"},
    "data": {"train": {"source": "s3://ml/spam/train.jsonl"}},
    "output": {"destination": "s3://ml/models"},
}


def make_data(spec: Data | None = None, *, name: str = "spam", **metadata: Any) -> Data:
    """A job as plain data; `spec` is merged over a valid one, a null removes a field."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, **metadata},
        "spec": merge(_SPEC, spec or {}),
    }


def make_job(spec: Data | None = None, *, name: str = "spam", **metadata: Any) -> FineTuneJob:
    """A validated job."""
    return FineTuneJob.from_data(make_data(spec, name=name, **metadata))


def merge(base: Any, change: Any) -> Any:
    """Merge maps as a JSON merge patch does (RFC 7386)."""
    if not isinstance(change, dict) or not isinstance(base, dict):
        return copy.deepcopy(change)
    merged = {**copy.deepcopy(base), **{key: merge(base.get(key), value) for key, value in change.items()}}
    return {key: value for key, value in merged.items() if value is not None}


def make_condition(kind: str, status: Literal["True", "False", "Unknown"], reason: str) -> Condition:
    """A condition."""
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message="",
        last_transition_time="2026-01-01T00:00:00Z",
        observed_generation=1,
    )


def make_status(**changes: Any) -> FineTuneJobStatus:
    """A status in which every field is set."""
    metrics = {"f1": 0.94123, "f1/spam": 0.9}
    failure = Failure(
        failure_class=FailureClass.CODE, reason="CodeCrash", message="it broke", node=1, rank=3, exit_code=-9,
        last_lines=("Traceback",), at=1.5, host="node-a", phase="forward", step=11, samples=(3, 5), secondary=True,
    )  # fmt: skip
    resolved = Resolved(
        world_size=2, nodes=2, workers_per_node=1, device="cuda", batch_size=32, micro_batch_size=8,
        gradient_accumulation_steps=2, evaluation_batch_size=16, epochs=3.0, max_steps=100, learning_rate=2e-5,
        precision="bf16", zero_stage=2, metric="f1", greater_is_better=True, evaluate_every_steps=10,
        evaluate_every_epochs=1.0, prepare="pod", columns={"text": "body"}, shared_memory_bytes=2**33,
        reasons={"precision": "GPUs"},
    )  # fmt: skip
    part = DataPart(rows=9, read=10, dropped={"empty": 1}, tokens=90, targets=9, truncated=1, split_off=True)
    checkpoint = CheckpointRecord(
        step=40,
        attempt=2,
        state="Promoted",
        uri="s3://ml/c",
        digest="sha256:0",
        metrics=metrics,
        size_bytes=2**40,
        at=1.0,
    )
    progress = ProgressStatus(
        step=42, total_steps=100, epoch=1.25, loss=0.123456, learning_rate=1e-5, tokens_per_second=1e4,
        step_seconds=3.4, eta_seconds=200.4, first_step_at=1.0, percent=42.9, metrics=metrics,
        updated_time="2026-01-01T00:00:00Z", skipped_steps=1, stragglers=(Straggler(rank=1, ratio=2.5),),
    )  # fmt: skip
    gate = GateResult(metric="f1", split="test", value=0.94, min=0.9, max=1.0, passed=True)
    status = FineTuneJobStatus(
        observed_generation=1,
        conditions=(make_condition(CONDITION_RUNNING, "True", "Training"),),
        phase="Running",
        start_time="2026-01-01T00:00:00Z",
        resolved=resolved,
        data=DataSummary(fingerprint="0", parts={"train": part}, labels=("ham", "spam"), max_length=128, reused=True),
        progress=progress,
        attempts=(
            AttemptStatus(
                number=1,
                start_time="2026-01-01T00:00:00Z",
                end_time="2026-01-01T00:01:00Z",
                nodes=2,
                from_step=0,
                last_step=10,
                lost_steps=2,
                training_seconds=20.0,
                result="Failed",
                reason="CodeCrash",
                stop_time="2026-01-01T00:00:50Z",
                micro_batch_size=4,
                members={"0": "spam-0a1b2-0-0"},
                failure=failure,
            ),
        ),
        attempts_folded=AttemptsFolded(
            count=1,
            lost_steps=2,
            gpu_seconds=3.5,
            held_seconds=7.0,
            training_seconds=3.0,
            lost_seconds=1.0,
            ended=(EndedAttempts(result="Failed", reason="CodeCrash", count=1),),
            counted_failures=1,
        ),
        restarts=1,
        retry_time="2026-01-01T00:02:00Z",
        avoided_nodes=("node-a",),
        skipped_steps=(11,),
        checkpoints=(checkpoint,),
        best_checkpoint=BestCheckpoint(step=40, uri="s3://ml/c", metric="f1", value=0.94123),
        evaluation=EvaluationResult(validation=metrics, test=metrics, baseline=metrics, gate=(gate,), step=40),
        published=Published(uri="s3://ml/p", digest="sha256:1"),
        report="s3://ml/report.html",
        failure=failure,
        usage=UsageStatus(
            gpu_seconds=10.5,
            held_seconds=21.0,
            training_seconds=20.0,
            lost_seconds=1.1,
            lost_steps=2,
            time_to_first_step_seconds=12.5,
            goodput=0.9,
        ),
    )
    return status.model_copy(update=changes)
