"""The phase, a summary for people. Within one attempt it never goes backwards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from finetune_contract import names
from finetune_contract.names import Reason
from finetune_contract.progress import AgentPhase
from finetune_contract.status import FineTuneJobStatus, Phase
from finetune_operator.plan.attempts import find_attempt
from finetune_operator.plan.conditions import is_true

_ORDER: Final[tuple[Phase, ...]] = ("Pending", "Preparing", "Starting", "Running", "Evaluating", "Publishing")
_AGENT_PHASES: Final[dict[AgentPhase, Phase]] = {
    "Training": "Running",
    "Evaluating": "Running",
    "Finalizing": "Evaluating",
    "Publishing": "Publishing",
}
_HELD: Final = (Reason.SUSPENDED, Reason.BUDGET_EXCEEDED)


def derive_phase(
    before: FineTuneJobStatus,
    status: FineTuneJobStatus,
    agents: Iterable[AgentPhase],
    *,
    is_preparing: bool,
    is_held: bool,
) -> Phase:
    """The phase of a job that has not ended.

    `status` has data, attempts and Suspended already; `agents` are the phases of this attempt's members;
    `is_preparing`: a pod is up in which the data is being prepared; `is_held`: the job shall not run now.
    """
    if is_true(status, names.CONDITION_SUSPENDED):
        return "Suspended"
    attempt = find_attempt(status)
    if is_held or (attempt is not None and attempt.stop_time is not None and attempt.reason in _HELD):
        return "Suspending"
    heard = [_AGENT_PHASES[phase] for phase in agents if phase in _AGENT_PHASES]
    same = find_attempt_number(before) == find_attempt_number(status) and not _was_held(before)
    candidates = [_base_phase(status, is_preparing=is_preparing), *heard, *([before.phase] if same else [])]
    return max((phase for phase in candidates if phase in _ORDER), key=_ORDER.index)


def find_attempt_number(status: FineTuneJobStatus) -> int | None:
    """Number of the attempt under way."""
    attempt = find_attempt(status)
    return attempt.number if attempt else None


def is_terminal(status: FineTuneJobStatus) -> bool:
    """The job has succeeded or failed, for ever."""
    return is_true(status, names.CONDITION_SUCCEEDED) or is_true(status, names.CONDITION_FAILED)


def _base_phase(status: FineTuneJobStatus, *, is_preparing: bool) -> Phase:
    if status.data is not None:
        return "Starting"
    return "Preparing" if is_preparing else "Pending"


def _was_held(before: FineTuneJobStatus) -> bool:
    return before.phase in ("Suspending", "Suspended")
