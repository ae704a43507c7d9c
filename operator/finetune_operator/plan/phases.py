"""The phase, a summary for people. Within one attempt it never goes backwards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from finetune_contract import names
from finetune_contract.progress import AgentPhase
from finetune_contract.status import FineTuneJobStatus, Phase
from finetune_operator.plan.conditions import is_true

_ORDER: Final[tuple[Phase, ...]] = ("Pending", "Preparing", "Starting", "Running", "Evaluating", "Publishing")
_AGENT_PHASES: Final[dict[AgentPhase, Phase]] = {
    "Training": "Running",
    "Evaluating": "Running",
    "Finalizing": "Evaluating",
    "Publishing": "Publishing",
}


def derive_phase(
    before: FineTuneJobStatus, status: FineTuneJobStatus, agents: Iterable[AgentPhase], *, is_preparing: bool
) -> Phase:
    """The phase of a job that has not ended.

    `status` has data and attempts already; `agents` are the phases of this attempt's members; `is_preparing`: a pod
    is up in which the data is being prepared.
    """
    heard = [_AGENT_PHASES[phase] for phase in agents if phase in _AGENT_PHASES]
    floor = [before.phase] if _last_number(before) in (None, _last_number(status)) else []
    candidates = [_base_phase(status, is_preparing=is_preparing), *heard, *floor]
    return max((phase for phase in candidates if phase in _ORDER), key=_ORDER.index)


def is_terminal(status: FineTuneJobStatus) -> bool:
    """The job has succeeded or failed, for ever."""
    return is_true(status, names.CONDITION_SUCCEEDED) or is_true(status, names.CONDITION_FAILED)


def _base_phase(status: FineTuneJobStatus, *, is_preparing: bool) -> Phase:
    if status.data is not None:
        return "Starting"
    return "Preparing" if is_preparing else "Pending"


def _last_number(status: FineTuneJobStatus) -> int | None:
    return status.attempts[-1].number if status.attempts else None
