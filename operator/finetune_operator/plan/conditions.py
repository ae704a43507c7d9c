"""metav1.Conditions as values: set one, find one. A transition time moves only when the status turns."""

from __future__ import annotations

from typing import Literal

from finetune_contract import names
from finetune_contract.status import Condition, FineTuneJobStatus
from finetune_operator.plan.times import format_time

_MESSAGE_LENGTH = 4096


def find_condition(status: FineTuneJobStatus, type_: str) -> Condition | None:
    """The condition of this type, if it was ever set."""
    return next((condition for condition in status.conditions if condition.type == type_), None)


def is_true(status: FineTuneJobStatus, type_: str) -> bool:
    """The condition stands at True."""
    condition = find_condition(status, type_)
    return condition is not None and condition.status == "True"


def set_condition(
    status: FineTuneJobStatus,
    type_: str,
    value: Literal["True", "False", "Unknown"],
    reason: str,
    message: str,
    *,
    now: float,
    reason_turns: bool = False,
) -> FineTuneJobStatus:
    """The status with this condition; the others, and the order of names.CONDITIONS, stay.

    `reason_turns`: another reason is a transition too.
    """
    old = find_condition(status, type_)
    turned = old is None or old.status != value or (reason_turns and old.reason != reason)
    condition = Condition(
        type=type_,
        status=value,
        reason=reason,
        message=message[:_MESSAGE_LENGTH],
        last_transition_time=format_time(now) if old is None or turned else old.last_transition_time,
        observed_generation=status.observed_generation or 0,
    )
    by_type = {each.type: each for each in status.conditions} | {type_: condition}
    return status.model_copy(
        update={"conditions": tuple(by_type[each] for each in names.CONDITIONS if each in by_type)}
    )
