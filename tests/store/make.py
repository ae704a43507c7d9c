"""Builders of what the store keeps."""

from __future__ import annotations

from typing import Any

from finetune_contract.progress import CheckpointRecord, CheckpointState
from finetune_trainer.store.digests import FileDigest
from finetune_trainer.store.manifest import NodeFiles


def make_record(
    step: int = 10,
    attempt: int = 1,
    state: CheckpointState = "Verified",
    f1: float | None = None,
    uri: str = "",
) -> CheckpointRecord:
    """A complete checkpoint; with `f1` it was evaluated."""
    return CheckpointRecord(
        step=step,
        attempt=attempt,
        state=state,
        uri=uri or f"file:///job/checkpoints/step-{step:08d}-a{attempt}",
        digest="sha256:" + "0" * 64,
        metrics={} if f1 is None else {"f1": f1},
        size_bytes=100,
        at=1.0,
    )


def make_node(node: int = 0, **changes: Any) -> NodeFiles:
    """What one node has written of step 100."""
    fields: dict[str, Any] = {
        "node": node,
        "step": 100,
        "attempt": 1,
        "files": {f"shard-{node}.bin": FileDigest(size=10, sha256=str(node) * 64)},
    }
    return NodeFiles(**(fields | changes))
