"""`spec.lifecycle`, `failurePolicy`, `checkpoints`, `budget`, `storage`, `output`: how long, how often, where to."""

from typing import Annotated, Literal

from pydantic import Field

from finetune_contract.document import Document, Rule
from finetune_contract.spec.pod import ObjectReference
from finetune_contract.text import DestinationUri

Seconds = Annotated[int, Field(ge=1, le=315_360_000)]


class LifecycleSpec(Document):
    """Limits of the job's life, by the names of batch/v1 Job."""

    active_deadline_seconds: Seconds | None = None
    """The job fails when it has run this long."""
    queue_deadline_seconds: Seconds | None = None
    """The job fails when its pods have not started this long after it was accepted."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=315_360_000)] | None = None
    """The FineTuneJob deletes itself this long after its end; what lies in object storage stays."""
    backoff_limit: Annotated[int, Field(ge=0, le=1000)] = 3
    """Attempts that code may crash before the job fails; lost nodes and preemption cost nothing."""
    stop_grace_seconds: Annotated[int, Field(ge=1, le=86_400)] = 120
    """How long a suspend waits for the checkpoint."""
    eviction_grace_seconds: Annotated[int, Field(ge=1, le=86_400)] = 120
    """How long a preempted job may take to save before it gives its place away."""


class TimeoutsSpec(Document):
    """How long a worker may show no sign of life before it counts as hung."""

    start_seconds: Seconds = 1800
    """From the worker's start to the beginning of training: loading, joining, resuming."""
    first_step_seconds: Seconds = 1800
    """The first step of an attempt, which may compile."""
    step_seconds: Seconds | None = None
    """Every further step; absent: ten times the median of the steps before, at least a minute."""
    evaluation_seconds: Seconds = 900
    """One batch of an evaluation, and its figures."""
    save_seconds: Seconds = 900
    """One checkpoint, and the export of the best weights."""


class FailurePolicySpec(Document):
    """What happens when training goes wrong without crashing."""

    hang: Literal["restart", "fail"] = "restart"
    """When no rank makes a step any more: begin the next attempt (counts against lifecycle.backoffLimit), or fail."""
    timeouts: TimeoutsSpec = TimeoutsSpec()
    """After how long a silent worker counts as hung."""
    numeric: Literal["fail", "skip", "rollback"] = "fail"
    """When the loss is not a number or jumps: fail, skip the update, or go back to the last checkpoint and pass over
    the rows of that step. Skip looks at the loss of every step before its update: one small all-reduce and one wait
    for the device a step, which the others do once a log interval."""
    numeric_budget: Annotated[int, Field(ge=1, le=1000)] = 10
    """Steps that may be passed over before the job fails."""
    loss_spike_factor: Annotated[float, Field(gt=1.0, le=1_000_000.0)] | None = None
    """A loss above so many times the median of the last 50 steps counts as numeric trouble; absent: only a loss that
    is not a number."""


class CheckpointsSpec(Document):
    """Resume points beside those of every evaluation, and how many are kept."""

    every_steps: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Save every so many optimizer steps."""
    every_minutes: Annotated[float, Field(gt=0.0, le=100_000.0)] | None = None
    """Save every so many minutes."""
    keep_last: Annotated[int, Field(ge=1, le=1000)] = 2
    """Newest checkpoints that are kept."""
    keep_best: Annotated[int, Field(ge=1, le=1000)] = 1
    """Best checkpoints that are kept."""

    rules = (
        Rule(
            cel="!(has(self.everySteps) && has(self.everyMinutes))",
            message="checkpoints: everySteps and everyMinutes exclude each other; remove one",
            holds=lambda checkpoints: checkpoints.every_steps is None or checkpoints.every_minutes is None,
            field="everyMinutes",
        ),
    )


class BudgetSpec(Document):
    """What the job may cost."""

    max_gpu_hours: Annotated[float, Field(gt=0.0, le=10_000_000.0)]
    """GPU-hours over all attempts; the job stops with a checkpoint when they are used up."""


class StorageSpec(Document):
    """Access to the object storage."""

    secret_ref: ObjectReference
    """Secret with the usual variables: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, AWS_REGION, ..."""


class OutputSpec(Document):
    """Where results go."""

    destination: DestinationUri
    """Checkpoints, reports and the published model lie in a folder of the job's name below it."""
