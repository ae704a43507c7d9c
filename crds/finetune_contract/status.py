"""`status` of a FineTuneJob: derived facts only, each with one writer (the operator)."""

from typing import Annotated, Literal

from pydantic import Field

from finetune_contract.document import Document
from finetune_contract.progress import (
    CheckpointRecord,
    DataSummary,
    EvaluationResult,
    Failure,
    Metrics,
    Published,
    StepProgress,
)
from finetune_contract.run import Resolved
from finetune_contract.text import LongText, ShortText

Phase = Literal[
    "Pending",
    "Preparing",
    "Queued",
    "Starting",
    "Running",
    "Evaluating",
    "Publishing",
    "Suspending",
    "Suspended",
    "Succeeded",
    "Failed",
]
"""A summary for people and the printer column; the conditions are the truth."""

Timestamp = Annotated[str, Field(max_length=40, json_schema_extra={"format": "date-time"})]
"""RFC 3339 in UTC."""


class Condition(Document):
    """metav1.Condition."""

    type: Annotated[str, Field(min_length=1, max_length=316)]
    """Accepted, DataReady, QuotaReserved, Running, Suspended, Succeeded or Failed."""
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """CamelCase reason of the last change."""
    message: Annotated[str, Field(max_length=32768)]
    """One sentence for people, with the remedy where something is wrong."""
    last_transition_time: Timestamp
    """When status last changed."""
    observed_generation: Annotated[int, Field(ge=0)]
    """Generation of the spec that this was said of."""


class AttemptStatus(Document):
    """One attempt; closed once, when endTime is set."""

    number: Annotated[int, Field(ge=1)]
    start_time: Timestamp
    end_time: Timestamp | None = None
    nodes: int = 0
    """Members of the attempt."""
    from_step: int = 0
    """Step it began from; 0: the pre-trained model."""
    last_step: int = 0
    """Last optimizer step that it did."""
    lost_steps: int = 0
    """Steps that were done and are not in the checkpoint that the next attempt began from."""
    result: Literal["Running", "Finished", "Stopped", "Failed"] = "Running"
    failure: Failure | None = None


class AttemptsFolded(Document):
    """Sums over attempts that no longer stand in the list."""

    count: int = 0
    lost_steps: int = 0
    gpu_seconds: float = 0.0


class ProgressStatus(StepProgress):
    """status.progress."""

    percent: Annotated[float, Field(ge=0.0, le=100.0)] = 0.0
    """Steps done of all steps."""
    metrics: Metrics = {}
    """Newest validation metrics."""
    updated_time: Timestamp | None = None
    """When the operator last heard these figures from the agents."""


class BestCheckpoint(Document):
    """The best checkpoint by evaluation.metric."""

    step: int
    uri: LongText
    metric: ShortText
    value: float


class UsageStatus(Document):
    """What the job has used, over all attempts."""

    gpu_seconds: float = 0.0
    """GPUs x seconds that the pods held them."""
    lost_steps: int = 0
    """Steps that had to be done again."""
    time_to_first_step_seconds: float | None = None
    """From creation to the end of the first optimizer step."""
    goodput: float | None = None
    """Share of the held time that went into steps that counted."""


class FineTuneJobStatus(Document):
    """status of a FineTuneJob."""

    observed_generation: int | None = None
    """Generation of the spec that this status was derived from."""
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
        ),
    ] = ()
    """Accepted, DataReady, QuotaReserved, Running, Suspended, Succeeded, Failed."""
    phase: Phase = "Pending"
    start_time: Timestamp | None = None
    """When the first attempt began."""
    completion_time: Timestamp | None = None
    """When the job succeeded or failed."""
    resolved: Resolved | None = None
    """What every value that you left out became."""
    data: DataSummary | None = None
    """What preparation found."""
    progress: ProgressStatus | None = None
    """How far training is; written at most every 15 seconds."""
    attempts: Annotated[
        tuple[AttemptStatus, ...],
        Field(
            max_length=20, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["number"]}
        ),
    ] = ()
    """The attempts, oldest first."""
    attempts_folded: AttemptsFolded | None = None
    """Sums over older attempts."""
    restarts: int = 0
    """Attempts beyond the first."""
    checkpoints: Annotated[tuple[CheckpointRecord, ...], Field(max_length=64)] = ()
    """Checkpoints in the store, oldest first."""
    best_checkpoint: BestCheckpoint | None = None
    evaluation: EvaluationResult | None = None
    """Final figures and the gate."""
    published: Published | None = None
    """The published model."""
    report: LongText | None = None
    """URI of report.html."""
    failure: Failure | None = None
    """What ended the job."""
    usage: UsageStatus = UsageStatus()
