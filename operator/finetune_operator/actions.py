"""What shall be done about one job, as a value. The order of carrying out is the order of the fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finetune_contract.status import FineTuneJobStatus
from finetune_operator.plan.events import Event


@dataclass(frozen=True, slots=True)
class Annotate:
    """Tell the agent of one pod something."""

    pod: str
    annotations: dict[str, str]


@dataclass(frozen=True, slots=True)
class Actions:
    """One decision.

    The status is written before pods are annotated: an attempt's number and a job's end stand there first, so that
    a crash in between repeats the annotation and never the attempt.
    """

    create: tuple[dict[str, Any], ...] = ()
    """Objects that are missing. They are never changed afterwards, apart from their annotations."""
    status: FineTuneJobStatus | None = None
    """The new status; None: as it is."""
    annotate: tuple[Annotate, ...] = ()
    delete_pods: tuple[str, ...] = ()
    force_delete_pods: tuple[str, ...] = ()
    """Pods that do not go although their grace is over: taken out of the API server without asking their node."""
    events: tuple[Event, ...] = ()
    delete_job: bool = False
    requeue_after: float | None = None
    """Seconds until time alone may change the decision; that figures may be told again then is none of it."""
