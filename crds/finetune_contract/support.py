"""What the contract allows and this version does not do yet: the job is refused with NotYetSupported, never half done.

Each row leaves this table together with the code that makes it true.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from finetune_contract.names import LABEL_QUEUE
from finetune_contract.spec import FineTuneJob
from finetune_contract.spec.strategy import SUPPORTED_METHODS
from finetune_contract.spec.task import SUPPORTED_TASKS


@dataclass(frozen=True)
class _Gap:
    asks_for: Callable[[FineTuneJob], bool]
    sentence: str
    """Names the field, says what is missing and what to write instead."""


_GAPS = (
    _Gap(
        lambda job: job.spec.task not in SUPPORTED_TASKS,
        f"spec.task is not supported yet; choose {' or '.join(SUPPORTED_TASKS)}",
    ),
    _Gap(
        lambda job: job.spec.strategy.method not in SUPPORTED_METHODS,
        f"spec.strategy.method is not supported yet; choose {' or '.join(SUPPORTED_METHODS)}",
    ),
    _Gap(lambda job: job.spec.training.packing, "spec.training.packing is not supported yet; remove it"),
    _Gap(
        lambda job: job.queue is not None,
        f"metadata.labels[{LABEL_QUEUE}]: queues are not supported yet; remove the label",
    ),
    _Gap(
        lambda job: job.spec.data.deduplicate.method == "near",
        "spec.data.deduplicate.method: near is not supported yet; choose exact or none",
    ),
)


def check_support(job: FineTuneJob) -> str | None:
    """Say in one sentence which field of a valid job asks for what this version cannot do; None when it can do all."""
    return next((gap.sentence for gap in _GAPS if gap.asks_for(job)), None)
