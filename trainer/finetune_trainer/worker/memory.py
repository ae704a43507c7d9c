"""Peak memory of this process: what the device has allocated for it, and its resident set.

The GPU's branch is written after the documentation of torch.cuda; it has not been run on a GPU.
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
