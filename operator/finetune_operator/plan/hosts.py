"""Kubernetes nodes that have failed a job more than once. What pods make of it stands in objects/placement.py."""

from __future__ import annotations

from collections import Counter
from typing import Final

from finetune_contract.exits import FailureClass
from finetune_contract.status import FineTuneJobStatus

FAILURES: Final = 2
"""Infrastructure failures of one node after which replacements go elsewhere."""
LIMIT: Final = 64


def note_avoided_nodes(status: FineTuneJobStatus) -> FineTuneJobStatus:
    """The status with the nodes that attempts in the list show to be bad; one that was avoided stays so."""
    failures = [attempt.failure for attempt in status.attempts if attempt.failure is not None]
    counts = Counter(
        failure.host for failure in failures if failure.failure_class is FailureClass.INFRASTRUCTURE and failure.host
    )
    bad = [host for host, count in counts.items() if count >= FAILURES and host not in status.avoided_nodes]
    return status.model_copy(update={"avoided_nodes": (*status.avoided_nodes, *sorted(bad))[-LIMIT:]})
