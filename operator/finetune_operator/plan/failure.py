"""Which failure is the cause, and what the loss of a pod means.

Today every failure ends its job (verdict.py); the classes that will be tried again are decided here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from finetune_contract.exits import FailureClass
from finetune_contract.names import Reason
from finetune_contract.progress import Failure
from finetune_operator.snapshot import Pod

OUT_OF_MEMORY_WORD: Final = "OOMKilled"
"""Kubernetes' own word for a container that the kernel ended for its memory."""


def choose_cause(failures: Iterable[Failure]) -> Failure | None:
    """The earliest failure that is not merely the loss of another; among victims alone, the earliest."""
    ordered = sorted(failures, key=lambda failure: (failure.failure_class is FailureClass.PEER_LOST, failure.at))
    return ordered[0] if ordered else None


def describe_lost_pod(pod: Pod, now: float) -> Failure:
    """The failure of a pod that ended although its job still needed it; the words are the cluster's."""
    said = ": ".join(word for word in (pod.reason, pod.message) if word)
    if pod.reason == OUT_OF_MEMORY_WORD:
        return Failure(
            failure_class=FailureClass.OUT_OF_MEMORY,
            reason=Reason.OUT_OF_MEMORY,
            message=f"pod {pod.key.name} ran out of memory: raise spec.resources.memory or lower"
            " spec.training.microBatchSize",
            node=pod.node_index,
            exit_code=pod.exit_code,
            at=now,
        )
    return Failure(
        failure_class=FailureClass.INFRASTRUCTURE,
        reason=Reason.POD_LOST,
        message=f"pod {pod.key.name} ended before the job did{f' ({said})' if said else ''}: see its logs with"
        f" kubectl logs {pod.key.name}, and apply the job again under another name"[:4096],
        node=pod.node_index,
        exit_code=pod.exit_code,
        at=now,
    )


def describe_missing_pod(node_index: int, now: float) -> Failure:
    """The failure of a node whose pod is no longer there."""
    return Failure(
        failure_class=FailureClass.INFRASTRUCTURE,
        reason=Reason.POD_LOST,
        message=f"the pod of node {node_index} was deleted before the job ended: see the events of its node,"
        " and apply the job again under another name",
        node=node_index,
        at=now,
    )
