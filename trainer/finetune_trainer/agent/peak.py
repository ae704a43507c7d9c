"""The GPU's dense bf16 peak, for the MFU. Read from the driver's files: the agent has no CUDA."""

from __future__ import annotations

from pathlib import Path
from typing import Final

DRIVER: Final = Path("/proc/driver/nvidia/gpus")
PEAKS: Final = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
}
"""Part of the model's name -> FLOP/s, dense, from NVIDIA's data sheets (SXM where there are several)."""


def find_peak_flops(driver: Path = DRIVER) -> float | None:
    """FLOP/s of one GPU of this node; None where it has none or an unknown one, and no MFU is shown."""
    for path in sorted(driver.glob("*/information")):
        for line in path.read_text(errors="replace").splitlines():
            key, _, model = line.partition(":")
            if key == "Model":
                words = model.replace("-", " ").split()
                return next((peak for name, peak in PEAKS.items() if name in words), None)
    return None
