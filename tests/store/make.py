"""Builders of what the store keeps."""

from __future__ import annotations

from finetune_contract.progress import CheckpointRecord, CheckpointState


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
