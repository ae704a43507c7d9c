"""What agent and workers of one pod say to each other, as JSON over a multiprocessing Connection (send_bytes).

Documents only: no pickles cross this border. A `WorkerMessage` travels inside an `Envelope`, which names its kind.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from finetune_contract.attempt import Endpoint
from finetune_contract.document import Document
from finetune_contract.progress import Failure, StepProgress
from finetune_contract.run import RunConfig

WorkerPhase = Literal["starting", "training", "evaluating", "saving", "finalizing", "stopping"]


class WorkerTask(Document):
    """Everything that one worker process is told at its start."""

    run: RunConfig
    attempt: int
    rank: int
    local_rank: int
    world_size: int
    local_world_size: int
    node: int
    master: Endpoint
    model_dir: str
    """The pre-trained model, a transformers folder."""
    data_dir: str
    """Prepared data: prepared.json, train/, validation/, test/."""
    attempt_dir: str
    """Scratch of this node for this attempt: snapshots/, export/, evaluation.json, rank-<r>.log."""
    resume_dirs: tuple[str, ...] = ()
    """Local folders of verified checkpoints, newest first; the newest that every rank holds is loaded."""
    best_dir: str | None = None
    """Node 0: folder with the weights of the best checkpoint of earlier attempts."""


class Heartbeat(Document):
    """A sign of life, at every step and every evaluation batch."""

    kind: Literal["heartbeat"] = "heartbeat"
    rank: int
    phase: WorkerPhase
    step: int
    at: float


class Logged(Document):
    """Rank 0's figures, once a log interval."""

    kind: Literal["logged"] = "logged"
    progress: StepProgress
    tokens_total: int
    """Input tokens of all ranks in this attempt."""
    samples_total: int
    data_wait_seconds: float
    """Seconds that this attempt's steps waited for rows."""
    save_stall_seconds: float
    """Seconds that this attempt's steps waited for snapshots."""
    flops_per_second: float | None = None


class Evaluated(Document):
    """Rank 0: an evaluation during training has ended."""

    kind: Literal["evaluated"] = "evaluated"
    step: int
    split: Literal["validation", "test"]
    metrics: dict[str, float]
    best: bool


class SnapshotReady(Document):
    """Every local rank: its files of a checkpoint are complete in `folder`."""

    kind: Literal["snapshot"] = "snapshot"
    rank: int
    step: int
    folder: str
    """attempt_dir/snapshots/step-00000100: all local ranks write into the same folder."""
    files: tuple[str, ...]
    """This rank's files, relative to folder."""
    metrics: dict[str, float] = {}
    """Validation metrics, where the checkpoint was evaluated (rank 0 only)."""
    best: bool = False
    """The best so far by evaluation.metric (rank 0 only)."""
    state: dict[str, float | int | str] = {}
    """Further figures for the manifest: consumed_samples, zero_stage, world_size, ... (rank 0 only)."""


class Resumed(Document):
    """Rank 0: which checkpoint this attempt began from, and which ones were passed over and why."""

    kind: Literal["resumed"] = "resumed"
    step: int
    skipped: tuple[str, ...] = ()


class Finalized(Document):
    """Rank 0: the best weights are exported and judged; export/ and evaluation.json of attempt_dir are complete."""

    kind: Literal["finalized"] = "finalized"
    step: int


class Warned(Document):
    """Something a user should know although it stops nothing."""

    kind: Literal["warned"] = "warned"
    message: str


class Failed(Document):
    """The worker ends by an error that it understands; its exit code follows."""

    kind: Literal["failed"] = "failed"
    failure: Failure


class Stop(Document):
    """Agent to worker: agree on a step, snapshot, exit with code 3."""

    kind: Literal["stop"] = "stop"


WorkerMessage = Annotated[
    Heartbeat | Logged | Evaluated | SnapshotReady | Resumed | Finalized | Warned | Failed, Field(discriminator="kind")
]


class Envelope(Document):
    """One message of a worker."""

    message: WorkerMessage
