"""Builders of what the operator sees: the default is valid and quiet, a test writes only what it is about."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from finetune_contract import names
from finetune_contract.attempt import Attempt, Endpoint
from finetune_contract.exits import FailureClass
from finetune_contract.names import Reason
from finetune_contract.progress import (
    CheckpointRecord,
    DataPart,
    DataSummary,
    EvaluationResult,
    Failure,
    GateResult,
    Outcome,
    Progress,
    Published,
    StepProgress,
)
from finetune_contract.spec import FineTuneJob
from finetune_contract.status import AttemptStatus, FineTuneJobStatus
from finetune_operator.plan.times import format_time
from finetune_operator.snapshot import Answer, Key, Pod, Snapshot
from tests.contract.make import make_job

NOW = 1_800_000_000.0
"""2027-01-15T08:00:00Z."""
UID = "0a1b2c3d-0000-4000-8000-000000000000"
LATER = NOW + 30
POD_0, POD_1 = "spam-0a1b2-0-0", "spam-0a1b2-1-0"
"""Names of the first pods of two nodes."""
IPS = ("10.0.0.1", "10.0.0.2", "10.0.0.3")


def make_accepted_job(spec: dict[str, Any] | None = None, **metadata: Any) -> FineTuneJob:
    """A job as the API server holds it."""
    return make_job(spec, namespace="ml", uid=UID, generation=1, **metadata)


def make_snapshot(spec: dict[str, Any] | None = None, **facts: Any) -> Snapshot:
    """A job that was just applied: no pods, no status."""
    return Snapshot(
        **{
            "key": Key("ml", "spam"),
            "uid": UID,
            "generation": 1,
            "created": NOW,
            "job": make_accepted_job(spec),
            "status": FineTuneJobStatus(),
            "listening_since": NOW,
            **facts,
        }
    )


def make_pod(node_index: int = 0, *, role: str = names.ROLE_TRAINER, **facts: Any) -> Pod:
    """A pod that waits for a node."""
    return Pod(
        **{
            "key": Key("ml", names.pod_name("spam", UID, role, node_index, facts.get("incarnation", 0))),
            "job": "spam",
            "job_uid": UID,
            "role": role,
            "node_index": node_index,
            "created": NOW,
            "image": "trainer:1",
            **facts,
        }
    )


def make_running_pod(node_index: int = 0, **facts: Any) -> Pod:
    """A pod whose agent answers, without an attempt."""
    return make_pod(node_index, **{"phase": "Running", "ip": IPS[node_index], "ready": True, **facts})


def make_member(node_index: int = 0, *, nodes: int = 1, **facts: Any) -> Pod:
    """A pod that was told attempt 1."""
    return make_running_pod(node_index, **{"attempt": make_attempt(nodes).to_json(), **facts})


def make_attempt(nodes: int = 1) -> Attempt:
    """Attempt 1."""
    members = {str(index): IPS[index] for index in range(nodes)}
    return Attempt(number=1, members=members, master=Endpoint(host=IPS[0], port=29501))


def make_progress(**facts: Any) -> Progress:
    """An agent of node 0 that follows attempt 1 and trains."""
    return Progress(
        **{
            "job_uid": UID,
            "node": 0,
            "role": names.ROLE_TRAINER,
            "attempt": 1,
            "phase": "Training",
            "data": make_summary(),
            **facts,
        }
    )


def make_answer(since: float = NOW, *, heard: float = math.inf, **facts: Any) -> Answer:
    """What such an agent said, and goes on saying."""
    return Answer(make_progress(**facts), since, heard)


def make_answers(*answers: Answer, incarnation: int = 0) -> dict[str, Answer]:
    """Answers by pod name."""
    return {
        names.pod_name("spam", UID, answer.progress.role, answer.progress.node, incarnation): answer
        for answer in answers
    }


def make_summary(**facts: Any) -> DataSummary:
    """Prepared data."""
    parts = {"train": DataPart(rows=80), "validation": DataPart(rows=10), "test": DataPart(rows=10)}
    return DataSummary(**{"fingerprint": "f00d", "parts": parts, "labels": ("ham", "spam"), "max_length": 64, **facts})


def make_step(step: int = 5, **facts: Any) -> StepProgress:
    """Half way through ten steps."""
    return StepProgress(
        **{"step": step, "total_steps": 10, "loss": 0.5, "training_seconds": 7.5, "first_step_at": NOW + 20, **facts}
    )


def make_record(step: int = 5, **facts: Any) -> CheckpointRecord:
    """A verified and evaluated checkpoint of attempt 1."""
    return CheckpointRecord(
        **{
            "step": step,
            "attempt": 1,
            "state": "Evaluated",
            "uri": f"s3://ml/models/spam-0a1b2c3d/checkpoints/{names.checkpoint_folder(step, 1)}",
            "digest": f"sha256:{step:064x}",
            "metrics": {"f1": 0.9},
            "at": NOW,
            **facts,
        }
    )


def make_failure(**facts: Any) -> Failure:
    """A worker that crashed."""
    return Failure(
        **{
            "failure_class": FailureClass.CODE,
            "reason": Reason.CODE_CRASH,
            "message": "worker 1 ended with exit code 1: its last lines say where",
            "node": 0,
            "rank": 1,
            "exit_code": 1,
            "last_lines": ("Traceback", "ZeroDivisionError"),
            "at": NOW,
            **facts,
        }
    )


def make_closed(number: int = 1, **facts: Any) -> AttemptStatus:
    """An attempt that failed."""
    moment = format_time(NOW)
    return AttemptStatus(
        **{
            "number": number,
            "start_time": moment,
            "end_time": moment,
            "nodes": 1,
            "result": "Failed",
            "failure": make_failure(),
            **facts,
        }
    )


def make_outcome(*, succeeded: bool = True, **facts: Any) -> Outcome:
    """The end of a job that passed its gate, or missed it."""
    gate = GateResult(metric="f1", split="test", value=0.9, min=0.8 if succeeded else 1.01, passed=succeeded)
    return Outcome(
        **{
            "succeeded": succeeded,
            "reason": Reason.PUBLISHED if succeeded else Reason.GATE_FAILED,
            "message": "The model passed its gate." if succeeded else "f1 on test is 0.9, below 1.01.",
            "attempt": 1,
            "step": 10,
            "evaluation": EvaluationResult(test={"f1": 0.9}, gate=(gate,), step=10),
            "published": Published(uri="s3://ml/models/spam-0a1b2c3d/published", digest="sha256:1")
            if succeeded
            else None,
            "report": "s3://ml/models/spam-0a1b2c3d/report.html",
            "at": NOW,
            **facts,
        }
    )


def read_phase(body: Mapping[str, Any]) -> str:
    """The phase of a job's body."""
    return str(body.get("status", {}).get("phase", "Pending"))
