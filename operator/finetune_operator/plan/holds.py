"""Why a job must not run now although it has not ended: it was suspended, or its budget is used up.

Must not say how it is stopped: stopping.py and suspension.py do.
"""

from __future__ import annotations

from dataclasses import dataclass

from finetune_contract.names import Reason
from finetune_contract.spec import FineTuneJobSpec
from finetune_contract.status import FineTuneJobStatus
from finetune_operator.plan.attempts import find_attempt
from finetune_operator.plan.usage import count_gpu_seconds


@dataclass(frozen=True, slots=True)
class Hold:
    """The job shall have no pods."""

    reason: str
    message: str
    """What holds it, and what lets it go on."""


def find_hold(status: FineTuneJobStatus, spec: FineTuneJobSpec, now: float) -> Hold | None:
    """What holds the job; the user's own wish before the budget."""
    if spec.suspend:
        return Hold(Reason.SUSPENDED, "spec.suspend is true: set it to false to go on")
    limit = _measure_budget(spec)
    if limit is not None and count_gpu_seconds(status, spec, now) >= limit:
        assert spec.budget is not None, "a limit comes from a budget"
        return Hold(
            Reason.BUDGET_EXCEEDED,
            f"spec.budget.maxGpuHours ({spec.budget.max_gpu_hours:g}) is used up: raise it to go on",
        )
    return None


def find_budget_end(status: FineTuneJobStatus, spec: FineTuneJobSpec, now: float) -> float | None:
    """When the attempt under way will have used the budget up; None where it cannot."""
    attempt, limit = find_attempt(status), _measure_budget(spec)
    rate = attempt.nodes * spec.resources.gpus_per_node if attempt else 0
    if limit is None or rate == 0:
        return None
    # Used time is counted in whole seconds.
    return int(now) + (limit - count_gpu_seconds(status, spec, now)) / rate + 1.0


def _measure_budget(spec: FineTuneJobSpec) -> float | None:
    if spec.budget is None or spec.resources.gpus_per_node == 0:
        return None
    return spec.budget.max_gpu_hours * 3600.0
