"""What an agent answers: `GET /progress`, and the records that the store and the status hold as well.

Pod-local truth only: an agent says what it sees, and never what the job as a whole is.
"""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from finetune_contract.document import Document
from finetune_contract.exits import FailureClass
from finetune_contract.text import LongText, ShortText

AgentPhase = Literal[
    "Idle",  # no attempt yet
    "Preparing",  # data, and the model from the Hub
    "Starting",  # model and data are fetched, workers start, up to the first step
    "Training",
    "Evaluating",  # during training
    "Finalizing",  # the best checkpoint is exported and evaluated
    "Publishing",
    "Stopping",
    "Stopped",  # workers ended with a checkpoint
    "Finished",  # outcome.json exists
    "Failed",  # news: see failure
]

CheckpointState = Literal["Saved", "Verified", "Evaluated", "Promoted", "Rejected"]

Metrics = Annotated[dict[ShortText, float], Field(max_length=512)]
"""Metric name -> value. Per-class figures are named metric/class."""

Count = Annotated[int, Field(ge=0)]
Unix = Annotated[float, Field(ge=0.0)]
"""Seconds since 1970 of the writer's own clock."""


class Failure(Document):
    """Why something ended that should not have; the remedy is part of it."""

    failure_class: FailureClass
    """What kind of failure; decides what happens next."""
    reason: ShortText
    """CamelCase reason for conditions and events (names.Reason)."""
    message: LongText
    """One sentence: the field, file or row, what was found, what to do."""
    node: int | None = None
    """Index of the node."""
    rank: int | None = None
    """First rank that failed and was not merely a victim of another."""
    exit_code: int | None = None
    """Exit code of that worker; negative: ended by that signal."""
    last_lines: Annotated[tuple[LongText, ...], Field(max_length=50)] = ()
    """Its last lines of output; of a hung worker its Python stack."""
    host: ShortText | None = None
    """Kubernetes node on which it happened."""
    phase: ShortText | None = None
    """What the worker was doing: data, forward, backward, update, evaluating, saving, ..."""
    step: int | None = None
    """Optimizer step in which it happened."""
    samples: Annotated[tuple[int, ...], Field(max_length=64)] = ()
    """Positions of the rows of that step in the prepared training part (the first 64)."""
    secondary: bool = False
    """It may merely be the consequence of another rank's failure: others are asked first."""
    at: Unix = 0.0
    """When it happened."""


class DataPart(Document):
    """One part of the data after preparation."""

    rows: Count
    """Rows that are used."""
    read: Count = 0
    """Rows that were read for this part (0 when it was split off)."""
    dropped: Annotated[dict[ShortText, int], Field(max_length=32)] = {}
    """Rows that were left out, by reason."""
    tokens: Count = 0
    """Input tokens."""
    targets: Count = 0
    """Tokens or rows that the loss looks at."""
    truncated: Count = 0
    """Rows that were cut to maxLength."""
    split_off: bool = False
    """The part was split off the training rows."""


class DataSummary(Document):
    """What preparation found and made."""

    fingerprint: ShortText
    """Digest of data and settings; equal fingerprints share the prepared data."""
    parts: Annotated[dict[ShortText, DataPart], Field(max_length=8)]
    """train, validation, test."""
    labels: Annotated[tuple[LongText, ...], Field(max_length=10_000)] = ()
    """Class names in the order of the model's ids."""
    max_length: Count
    """Tokens in a row."""
    reused: bool = False
    """The prepared data was already there."""


class PreparationProgress(Document):
    """How far data preparation is."""

    stage: ShortText
    """What it does: read, clean, tokenize, ..."""
    done: Count = 0
    total: Count = 0
    """0 while unknown."""


class RankHeartbeat(Document):
    """The last sign of life of one worker."""

    rank: int
    phase: ShortText
    step: Count
    at: Unix


class Straggler(Document):
    """A rank that is slow by its own computing, not by waiting for others."""

    rank: int
    """Its rank."""
    ratio: Annotated[float, Field(ge=0.0)]
    """Its own seconds a step over the median of all ranks."""


class StepProgress(Document):
    """How far training is."""

    step: Count = 0
    """Optimizer steps done."""
    total_steps: Count = 0
    """Optimizer steps of the whole job; 0 while unknown."""
    epoch: Annotated[float, Field(ge=0.0)] = 0.0
    """Passes over the training rows."""
    loss: float | None = None
    """Training loss, mean over the targets of the last logged steps."""
    learning_rate: float | None = None
    """Learning rate of the last logged step."""
    tokens_per_second: float | None = None
    """Input tokens a second over all processes, from this attempt's steps only."""
    step_seconds: float | None = None
    """Seconds an optimizer step, median of this attempt's last steps."""
    eta_seconds: float | None = None
    """Seconds to the last step, from this attempt's steps only; absent before the second step."""
    training_seconds: Annotated[float, Field(ge=0.0)] = 0.0
    """Seconds that this attempt's optimizer steps took, without saves, evaluation and start."""
    first_step_at: Unix | None = None
    """When this attempt's first optimizer step ended."""
    skipped_steps: Count = 0
    """Steps whose rows were passed over because of their loss, over the whole job."""
    stragglers: Annotated[tuple[Straggler, ...], Field(max_length=16)] = ()
    """Ranks that hold up the others."""


class CheckpointRecord(Document):
    """One checkpoint in the ledger."""

    step: Count
    """Optimizer step."""
    attempt: Count
    """Attempt that wrote it."""
    state: CheckpointState
    """How far it has come."""
    uri: LongText
    """Its folder in the store."""
    digest: ShortText | None = None
    """SHA-256 of its manifest, as sha256:hex."""
    metrics: Metrics = {}
    """Validation metrics, when it was evaluated."""
    size_bytes: Count = 0
    """Bytes of all its files."""
    at: Unix = 0.0
    """When it was verified."""


def find_newest_step(records: Iterable[CheckpointRecord]) -> int:
    """Step of the newest verified checkpoint; 0 without one."""
    return max((record.step for record in records if record.digest), default=0)


class GateResult(Document):
    """What became of one gate."""

    metric: ShortText
    """Name of the metric."""
    split: Literal["validation", "test"]
    """Rows on which it was measured."""
    value: float | None = None
    """The measured value; absent when the metric was not measured."""
    min: float | None = None
    """The metric had to be at least this."""
    max: float | None = None
    """The metric had to be at most this."""
    passed: bool
    """Whether the bound was kept."""


class EvaluationResult(Document):
    """The final figures, computed from the exported weights."""

    validation: Metrics = {}
    """Metrics of the validation rows."""
    test: Metrics = {}
    """Metrics of the test rows."""
    baseline: Metrics = {}
    """Test metrics of the model before training."""
    gate: Annotated[tuple[GateResult, ...], Field(max_length=16)] = ()
    """What became of each gate."""
    step: Count = 0
    """Optimizer step of the weights that were judged."""


class Published(Document):
    """The published model."""

    uri: LongText
    """Its folder."""
    digest: ShortText
    """SHA-256 of finetune-manifest.json, as sha256:hex."""


class Outcome(Document):
    """outcome.json: the end of the job, written once, create-only. It is the only verdict; no pod phase is."""

    succeeded: bool
    reason: ShortText
    """names.Reason: Published, GateFailed, DataError, ..."""
    message: LongText
    """One sentence."""
    attempt: Count
    step: Count = 0
    evaluation: EvaluationResult | None = None
    published: Published | None = None
    report: LongText | None = None
    """URI of report.html."""
    failure: Failure | None = None
    at: Unix = 0.0


class Progress(Document):
    """GET /progress of one agent."""

    job_uid: str
    node: int
    role: ShortText
    attempt: Count = 0
    """Attempt that the agent follows; 0 before the first."""
    phase: AgentPhase = "Idle"
    news: bool = False
    """There is something that the operator has not answered; the readiness probe fails as long as it is so."""
    step: StepProgress = StepProgress()
    ranks: Annotated[tuple[RankHeartbeat, ...], Field(max_length=64)] = ()
    preparation: PreparationProgress | None = None
    """While data is prepared here."""
    data: DataSummary | None = None
    resumed_from: int | None = None
    """Step that this attempt resumed from; absent when it began from the pre-trained model."""
    metrics: Metrics = {}
    """Newest validation metrics."""
    checkpoints: Annotated[tuple[CheckpointRecord, ...], Field(max_length=2000)] = ()
    """The ledger (node 0 only)."""
    best_step: int | None = None
    """Step of the best checkpoint so far."""
    failure: Failure | None = None
    warnings: Annotated[tuple[LongText, ...], Field(max_length=50)] = ()
    """What a user should know although it stops nothing (skipped rows, a slow bucket)."""
    outcome: Outcome | None = None
    quiet_until: Unix | None = None
    """Until then nothing is expected to happen but steps: no evaluation, checkpoint or end. Absent: it is not known."""
    at: Unix = 0.0
