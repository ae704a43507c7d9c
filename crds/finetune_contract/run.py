"""What a trainer is told: the RunConfig, one JSON file, written by the operator or by `finetune run`."""

from math import ceil
from typing import Annotated, Literal

from pydantic import Field

from finetune_contract.attempt import Attempt
from finetune_contract.document import Document
from finetune_contract.names import job_folder
from finetune_contract.spec import FineTuneJobSpec
from finetune_contract.text import LongText, ShortText


class JobIdentity(Document):
    """Which job this is."""

    namespace: str
    name: str
    uid: str
    """Empty in local runs."""


class Resolved(Document):
    """Every value that the user left out and that can be known without data and model; shown in status.resolved."""

    world_size: int
    """Worker processes over all nodes."""
    nodes: int
    """Trainer pods."""
    workers_per_node: int
    """Worker processes in each pod."""
    device: Literal["cpu", "cuda"]
    """What the workers compute on."""
    batch_size: int
    """Rows in one optimizer step over all workers."""
    micro_batch_size: int
    """Rows that one worker computes at a time."""
    gradient_accumulation_steps: int
    """Micro-batches that a rank computes before one optimizer step (ranks with fewer rows fill up with empty ones)."""
    evaluation_batch_size: int
    """Rows that one worker evaluates at a time."""
    epochs: float | None = None
    """None: only maxSteps ends the training."""
    max_steps: int | None = None
    """Optimizer steps; None: epochs end the training."""
    learning_rate: float
    """Peak learning rate."""
    precision: Literal["fp32", "bf16", "fp16"]
    """Precision of the forward and backward pass."""
    zero_stage: int
    """DeepSpeed's ZeRO stage."""
    metric: ShortText
    """Metric of the validation rows that chooses the best checkpoint."""
    greater_is_better: bool
    """Whether a higher value of the metric is better."""
    evaluate_every_steps: int | None = None
    """Evaluate every so many optimizer steps."""
    evaluate_every_epochs: float | None = None
    """Evaluate every so many epochs."""
    prepare: Literal["pod", "inline"]
    """Where data is prepared: a pod of its own, or the first trainer pod."""
    columns: dict[str, str]
    """Task column -> file column, complete."""
    shared_memory_bytes: int
    """Size of /dev/shm."""
    reasons: Annotated[dict[ShortText, LongText], Field(max_length=64)] = {}
    """Field of this document -> why it has that value."""


class RunConfig(Document):
    """The whole task of the trainer pods of one job."""

    job: JobIdentity
    spec: FineTuneJobSpec
    resolved: Resolved
    program: LongText = ""
    """Version of finetune-operator that wrote it."""

    def for_attempt(self, attempt: Attempt) -> "RunConfig":
        """The task as this attempt's members and micro-batch make it; the global batch stays.

        After memory ran out evaluation takes no more rows at a time than twice the micro-batch either.
        """
        resolved = self.resolved
        world_size = len(attempt.members) * resolved.workers_per_node
        rows = ceil(resolved.batch_size / world_size)
        micro_batch_size = min(attempt.micro_batch_size or resolved.micro_batch_size, rows)
        figures = {
            "nodes": len(attempt.members),
            "world_size": world_size,
            "micro_batch_size": micro_batch_size,
            "gradient_accumulation_steps": ceil(rows / micro_batch_size),
            "evaluation_batch_size": min(resolved.evaluation_batch_size, 2 * micro_batch_size)
            if attempt.micro_batch_size
            else resolved.evaluation_batch_size,
        }
        return self.model_copy(update={"resolved": resolved.model_copy(update=figures)})

    @property
    def destination(self) -> str:
        """The user's destination without a trailing slash."""
        return self.spec.output.destination.rstrip("/")

    @property
    def job_uri(self) -> str:
        """Folder of this job in the store."""
        return f"{self.destination}/{job_folder(self.job.name, self.job.uid)}"
