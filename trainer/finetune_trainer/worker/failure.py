"""Errors of libraries as errors of ours: what an exception in a worker means. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch.distributed import DistError

from finetune_contract.run import Resolved
from finetune_trainer.errors import FineTuneError, NumericError, OutOfMemoryError, PeerLostError
from finetune_trainer.marks import Stage
from finetune_trainer.shortage import explain_shortage

LOST_PEER_WORDS: Final = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Connection refused",
    "Broken pipe",
    "gloo",
    "NCCL",
    "ncclRemoteError",
    "Socket Timeout",
)
NO_MEMORY_WORDS: Final = (
    "can't allocate memory",
    "Cannot allocate memory",
    "out of memory",
    # What cuBLAS says where nothing is left on the GPU for its own workspace.
    "CUBLAS_STATUS_ALLOC_FAILED",
)
NO_LOSS_SCALE_WORDS: Final = "loss scale already at minimum"


@dataclass(frozen=True)
class Scene:
    """What the worker was doing, and with how many rows at a time."""

    stage: Stage
    step: int
    resolved: Resolved


def map_error(error: BaseException, scene: Scene) -> FineTuneError:
    """The error as one of ours, with a sentence that says what to do."""
    if isinstance(error, FineTuneError):
        return error
    words = str(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in words for word in NO_MEMORY_WORDS):
        return OutOfMemoryError(
            f"memory did not suffice {explain_shortage(scene.stage, scene.resolved)} ({_first_line(error)})"
        )
    if isinstance(error, DistError | ConnectionError) or (
        isinstance(error, RuntimeError) and any(word in words for word in LOST_PEER_WORDS)
    ):
        return PeerLostError(f"another worker is gone ({_first_line(error)}); see the failure of that worker")
    if NO_LOSS_SCALE_WORDS in words:
        return NumericError(
            f"the gradients of step {scene.step} are not finite in fp16, however small their scale; "
            "set training.precision: bf16 or fp32, or lower training.learningRate",
            step=scene.step,
            phase="update",
        )
    return FineTuneError(f"the worker crashed: {type(error).__name__}: {_first_line(error)}; see the log of this rank")


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
