"""Errors of libraries as errors of ours: what an exception in a worker means. Pure."""

from __future__ import annotations

from typing import Final

import torch
from torch.distributed import DistError

from finetune_trainer.errors import FineTuneError, OutOfMemoryError, PeerLostError

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
NO_MEMORY_WORDS: Final = ("can't allocate memory", "Cannot allocate memory", "out of memory")


def map_error(error: BaseException) -> FineTuneError:
    """The error as one of ours, with a sentence that says what to do."""
    if isinstance(error, FineTuneError):
        return error
    words = str(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in words for word in NO_MEMORY_WORDS):
        return OutOfMemoryError(
            f"memory did not suffice ({_first_line(error)}); lower training.microBatchSize or training.maxLength"
        )
    if isinstance(error, DistError | ConnectionError) or (
        isinstance(error, RuntimeError) and any(word in words for word in LOST_PEER_WORDS)
    ):
        return PeerLostError(f"another worker is gone ({_first_line(error)}); see the failure of that worker")
    return FineTuneError(f"the worker crashed: {type(error).__name__}: {_first_line(error)}; see the log of this rank")


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
