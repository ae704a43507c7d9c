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


class Offer(Document):
    """A verified checkpoint that this node can resume from."""

    name: str
    """Its folder's name, e.g. step-00000100-a1."""
    path: str | None = None
    """Where its files lie on this node: in shared memory or on disk; None: the agent brings it when it is asked."""
    step: int
    world_size: int
    """Worker processes that wrote it."""


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
    offers: tuple[Offer, ...] = ()
    """Checkpoints that this node can resume from, newest first; the newest that every rank has is loaded."""
    best_dir: str | None = None
    """Node 0: folder with the weights of the best checkpoint of earlier attempts."""
    memory_dir: str = ""
    """Folder of this worker's snapshots in shared memory, kept over attempts; empty: snapshots go to disk."""
    memory_bytes: int = 0
    """How much of it this worker may fill."""
    held_slots: tuple[str, ...] = ()
    """Slots in memory_dir that hold snapshots of earlier attempts, until they are released."""
    marks_file: str = ""
    """File in which every rank of this node marks what it is doing (worker/marks.py)."""
    skip_steps: tuple[int, ...] = ()
    """Optimizer steps whose rows are passed over."""


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
    gradient_norm: float | None = None
    """Norm of all gradients of the last step, before they are clipped; absent where nobody measures it."""
    rank_seconds: tuple[float, ...] = ()
    """By rank: its own seconds a step in the interval, without waiting for others."""
    rank_gpu_bytes: tuple[int, ...] = ()
    """By rank: peak of the GPU memory that torch has allocated; empty without GPUs."""
    rank_host_bytes: tuple[int, ...] = ()
    """By rank: peak of the resident set."""
    quiet_until: float | None = None
    """When the next evaluation, checkpoint or the end is due, at this pace; seconds since 1970."""


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
    """memory_dir/slot-<k>, or attempt_dir/snapshots/slot-<k>: all local ranks write into the same folder."""
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


class FetchCheckpoint(Document):
    """First local rank: the ranks have chosen this checkpoint, and its files do not lie here. Answered by `Fetched`."""

    kind: Literal["fetch"] = "fetch"
    name: str
    world_size: int
    """Worker processes of this attempt; a checkpoint of another number is converted."""


class Stop(Document):
    """Agent to worker: agree on a step, snapshot, exit with code 3."""

    kind: Literal["stop"] = "stop"


class Released(Document):
    """Agent to worker: the snapshot of this step may be overwritten; its slot is free."""

    kind: Literal["released"] = "released"
    step: int
    folder: str = ""
    """Its slot: two attempts may have saved the same step."""


class Fetched(Document):
    """Agent to worker: the checkpoint that was asked for."""

    kind: Literal["fetched"] = "fetched"
    name: str
    path: str | None = None
    """Folder with its verified files; None: it could not be brought."""
    universal: bool = False
    """It was converted to DeepSpeed's universal layout, since another number of processes wrote it."""
    problem: str = ""
    """Why not."""


WorkerMessage = Annotated[
    Heartbeat | Logged | Evaluated | SnapshotReady | Resumed | Finalized | Warned | Failed | FetchCheckpoint,
    Field(discriminator="kind"),
]
AgentMessage = Annotated[Stop | Released | Fetched, Field(discriminator="kind")]


class Envelope(Document):
    """One message of a worker."""

    message: WorkerMessage


class AgentEnvelope(Document):
    """One message of the agent."""

    message: AgentMessage
