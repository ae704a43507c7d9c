"""Peak memory of this process: what torch has allocated for it on the device, and its resident set.

On a GPU the process holds more than that: its context and NCCL's buffers are not torch's.
"""

from __future__ import annotations

import resource
from typing import Final, NamedTuple

import torch

_UNIT: Final = 1024
"""Linux counts the resident set in KiB."""


class Peak(NamedTuple):
    """Bytes."""

    gpu: int
    """Allocated by torch on this rank's GPU; 0 without one."""
    host: int


def measure_peak(device: torch.device) -> Peak:
    """The peak since this process began."""
    gpu = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return Peak(gpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT)
