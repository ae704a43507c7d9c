"""What is known of one job at one moment: the job, its pods, what its agents said last. Values only.

Built from the caches, read by plan/. Must reach for nothing itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from finetune_contract import names
from finetune_contract.progress import Progress
from finetune_contract.spec import FineTuneJob
from finetune_contract.status import FineTuneJobStatus
from finetune_operator.plan.objects.defaults import TrainerDefaults

PodPhase = Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"]


class Key(NamedTuple):
    """A namespaced object; of a job, the key of the work queue."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Pod:
    """What the operator keeps of a pod."""

    key: Key
    job: str
    job_uid: str
    role: str
    node_index: int
    created: float
    """Seconds since 1970."""
    incarnation: int = 0
    """Number of the job's last attempt when the pod was wanted."""
    host: str = ""
    """Kubernetes node that it is bound to."""
    phase: PodPhase = "Pending"
    ip: str = ""
    ready: bool = False
    deletion_time: float | None = None
    """When it is to be gone, its grace included; None while nobody has asked for that."""
    image: str = ""
    reason: str = ""
    """The cluster's own word for what it waits for or why it ended."""
    message: str = ""
    exit_code: int | None = None
    attempt: str | None = None
    """Annotation finetune.dev/attempt; stop and finish alike."""
    stop: str | None = None
    finish: str | None = None

    @property
    def is_running(self) -> bool:
        """Its agent can be asked."""
        return self.phase == "Running" and bool(self.ip)

    @property
    def has_ended(self) -> bool:
        """None of its processes runs any more."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def deleting(self) -> bool:
        """It was asked to go."""
        return self.deletion_time is not None

    @property
    def is_usable(self) -> bool:
        """It runs, or may still come to run, and stays."""
        return not self.has_ended and not self.deleting


@dataclass(frozen=True, slots=True)
class Answer:
    """What an agent said last."""

    progress: Progress
    since: float
    """Seconds since 1970, when it was first heard in this phase."""
    heard: float
    """Seconds since 1970, until when it is known to answer; infinity as long as no question failed."""
    told: float = 0.0
    """Seconds since 1970, when these news were first heard."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """The API server refused one of the job's objects."""

    message: str
    final: bool
    """True: the same object can never be accepted."""
    what: str = "a pod"


@dataclass(frozen=True)
class Snapshot:
    """Everything that a decision about one job may depend on, apart from `now`."""

    key: Key
    uid: str
    generation: int
    created: float
    """Seconds since 1970."""
    job: FineTuneJob | None
    """None where the spec is invalid."""
    status: FineTuneJobStatus
    problem: str | None = None
    """Why the spec is invalid."""
    unsupported: str | None = None
    """What the spec asks for that this version cannot do."""
    deleting: bool = False
    has_config: bool = False
    """The ConfigMap with the RunConfig exists."""
    pods: tuple[Pod, ...] = ()
    """By role, node index and incarnation."""
    answers: Mapping[str, Answer] = field(default_factory=dict)
    """Pod name -> its agent's last answer."""
    listening_since: float = 0.0
    """Seconds since 1970, since when agents are asked: silence before that is our own."""
    rejection: Rejection | None = None
    """The API server's answer to what the last decision wanted created, in the same pass."""
    defaults: TrainerDefaults = field(default_factory=TrainerDefaults)

    @property
    def trainers(self) -> tuple[Pod, ...]:
        """Pods that train."""
        return tuple(pod for pod in self.pods if pod.role == names.ROLE_TRAINER)
