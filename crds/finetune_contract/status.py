"""`status` of a FineTuneJob: derived facts only, each with one writer (the operator)."""

import json
from math import isfinite
from typing import Annotated, Any, Final, Literal, Self, TypeGuard

from pydantic import Field, computed_field
from pydantic_core import to_json

from finetune_contract.display import (
    DisplayStatus,
    describe_duration,
    describe_number,
    describe_percent,
    describe_steps,
)
from finetune_contract.document import Document
from finetune_contract.names import (
    CONDITION_ACCEPTED,
    CONDITION_FAILED,
    CONDITION_QUOTA_RESERVED,
    CONDITION_RUNNING,
    CONDITION_SUCCEEDED,
    CONDITION_SUSPENDED,
)
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
    """True, False or Unknown."""
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
    """Attempts count up from 1 over the job's whole life."""
    start_time: Timestamp
    """When it began."""
    end_time: Timestamp | None = None
    """When it ended; absent while it runs."""
    nodes: int = 0
    """Members of the attempt."""
    from_step: int = 0
    """Step it began from; 0: the pre-trained model."""
    last_step: int = 0
    """Last optimizer step that it did."""
    lost_steps: int = 0
    """Steps that were done and are not in the checkpoint that the next attempt began from."""
    training_seconds: Annotated[float, Field(ge=0.0)] = 0.0
    """Seconds that its optimizer steps took, without saves, evaluation and start."""
    result: Literal["Running", "Finished", "Stopped", "Failed"] = "Running"
    """How it ended."""
    reason: ShortText | None = None
    """Why it ended, or is being stopped: Suspended, PodDrained, NodesGrown, PodLost, CodeCrash, ..."""
    stop_time: Timestamp | None = None
    """When its members were asked to stop with a checkpoint; absent where nobody asked."""
    micro_batch_size: int | None = None
    """Rows that one worker computes at a time; absent: as resolved."""
    members: Annotated[dict[ShortText, ShortText], Field(max_length=1024)] = {}
    """Node index -> pod, while the attempt is under way; empty once it has ended."""
    failure: Failure | None = None


class EndedAttempts(Document):
    """How many attempts ended alike."""

    result: ShortText
    """Finished, Stopped or Failed."""
    reason: ShortText
    """Why they ended."""
    count: Annotated[int, Field(ge=1)]
    """Number of these attempts."""


class AttemptsFolded(Document):
    """Sums over attempts that no longer stand in the list."""

    count: int = 0
    """Number of these attempts."""
    lost_steps: int = 0
    """Steps that they lost."""
    gpu_seconds: float = 0.0
    """GPUs x seconds that they held."""
    held_seconds: float = 0.0
    """Seconds that they held their nodes."""
    training_seconds: float = 0.0
    """Seconds that their optimizer steps took."""
    lost_seconds: float = 0.0
    """Of these, seconds of steps that they lost."""
    ended: Annotated[tuple[EndedAttempts, ...], Field(max_length=64)] = ()
    """How many of them ended how."""
    counted_failures: int = 0
    """Those of them that count against lifecycle.backoffLimit."""


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
    """Optimizer step."""
    uri: LongText
    """Its folder in the store."""
    metric: ShortText
    """Name of the metric that chose it."""
    value: float
    """Value of that metric on the validation rows."""


class UsageStatus(Document):
    """What the job has used, over all attempts."""

    gpu_seconds: float = 0.0
    """GPUs x seconds that the pods held them."""
    held_seconds: float = 0.0
    """Seconds that the attempts held their nodes."""
    training_seconds: float = 0.0
    """Of these, seconds of optimizer steps, lost ones included."""
    lost_seconds: float = 0.0
    """Of these, seconds of steps that had to be done again."""
    lost_steps: int = 0
    """Steps that had to be done again."""
    time_to_first_step_seconds: float | None = None
    """From creation to the end of the first optimizer step."""
    goodput: float | None = None
    """Share of the held time that went into steps that counted: (trainingSeconds - lostSeconds) / heldSeconds."""


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
    """Where the job is in its life, for people; the conditions are the truth."""
    start_time: Timestamp | None = None
    """When the first attempt began; after a suspension, the first one since."""
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
    retry_time: Timestamp | None = None
    """When the next attempt begins at the earliest, after repeated failures without progress."""
    avoided_nodes: Annotated[tuple[ShortText, ...], Field(max_length=64)] = ()
    """Kubernetes nodes that failed this job more than once: replacements go elsewhere where they can."""
    skipped_steps: Annotated[tuple[int, ...], Field(max_length=1000)] = ()
    """Optimizer steps that are passed over since their loss was not usable (failurePolicy.numeric: rollback)."""
    checkpoints: Annotated[tuple[CheckpointRecord, ...], Field(max_length=64)] = ()
    """Checkpoints in the store, oldest first."""
    best_checkpoint: BestCheckpoint | None = None
    """The best checkpoint by evaluation.metric."""
    evaluation: EvaluationResult | None = None
    """Final figures and the gate."""
    published: Published | None = None
    """The published model."""
    report: LongText | None = None
    """URI of report.html."""
    failure: Failure | None = None
    """What ended the job."""
    usage: UsageStatus = UsageStatus()

    @classmethod
    def from_data(cls, data: object) -> Self:
        """Validate a status as the cluster holds it; `display` is derived anew, never read."""
        known = {key: value for key, value in data.items() if key != "display"} if isinstance(data, dict) else data
        return cls.model_validate_json(to_json(known), by_alias=True, by_name=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Validate a JSON text as `from_data` does."""
        return cls.from_data(json.loads(text))

    def to_data(self) -> dict[str, Any]:
        """Plain data for the API server. JSON knows neither NaN nor infinity: such a figure is absent."""
        data = super().to_data()
        if not _is_finite(data):
            data = _drop_endless(data)
        if "value" not in data.get("bestCheckpoint", {"value": None}):
            del data["bestCheckpoint"]  # a best that has no value is none
        return data

    @computed_field  # type: ignore[prop-decorator]
    @property
    def display(self) -> DisplayStatus:
        """What `kubectl get` prints; derived from the other fields."""
        progress, best = self.progress or ProgressStatus(), self.best_checkpoint
        started = progress.total_steps > 0
        moving = started and self.completion_time is None and progress.eta_seconds is not None
        return DisplayStatus(
            step=describe_steps(progress.step, progress.total_steps) if started else None,
            progress=describe_percent(progress.percent) if started else None,
            eta=describe_duration(progress.eta_seconds or 0.0) if moving else None,
            loss=describe_number(progress.loss) if _is_figure(progress.loss) else None,
            best=f"{best.metric} {describe_number(best.value)}" if best and _is_figure(best.value) else None,
            goodput=describe_percent(100.0 * self.usage.goodput) if _is_figure(self.usage.goodput) else None,
            reason=_find_reason(self.conditions),
        )


_TELLING: Final = (
    (CONDITION_FAILED, "True"),
    (CONDITION_ACCEPTED, "False"),
    (CONDITION_SUCCEEDED, "True"),
    (CONDITION_SUSPENDED, "True"),
    (CONDITION_QUOTA_RESERVED, "False"),
    (CONDITION_RUNNING, "True"),
    (CONDITION_RUNNING, "False"),
    (CONDITION_ACCEPTED, "True"),
)
"""Conditions by how much they explain, the most telling first."""


def _is_finite(data: dict[str, Any]) -> bool:
    """Whether JSON can hold it: surely, where no such word stands in it, and found out in a tenth of a walk's time."""
    text = to_json(data)
    return b"NaN" not in text and b"Infinity" not in text


def _drop_endless(value: Any) -> Any:
    """Plain data without numbers that are not finite."""
    if isinstance(value, dict):
        return {key: _drop_endless(entry) for key, entry in value.items() if not _is_endless(entry)}
    return [_drop_endless(entry) for entry in value] if isinstance(value, list) else value


def _is_endless(value: object) -> bool:
    return isinstance(value, float) and not isfinite(value)


def _is_figure(value: float | None) -> TypeGuard[float]:
    return value is not None and isfinite(value)


def _find_reason(conditions: tuple[Condition, ...]) -> str | None:
    reasons = {(condition.type, condition.status): condition.reason for condition in conditions}
    reason = next((reasons[key] for key in _TELLING if key in reasons), None)
    return reason[:128] if reason else None
