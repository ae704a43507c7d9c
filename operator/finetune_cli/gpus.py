"""How many GPUs this machine has, without importing torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

_DRIVER_FOLDER: Final = Path("/proc/driver/nvidia/gpus")
_SECONDS: Final = 20


def count_gpus() -> int:
    """GPUs that a process started here would see; CUDA_VISIBLE_DEVICES narrows them as it does for CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    present = _count_present()
    return present if visible is None else min(present, count_visible(visible))


def count_visible(variable: str) -> int:
    """Devices that a value of CUDA_VISIBLE_DEVICES names: CUDA stops reading at the first invalid one (-1, say)."""
    count = 0
    for device in variable.split(","):
        if not device.strip() or device.strip().startswith("-"):
            break
        count += 1
    return count


def _count_present() -> int:
    program = shutil.which("nvidia-smi")
    if program is None:
        return len(list(_DRIVER_FOLDER.iterdir())) if _DRIVER_FOLDER.is_dir() else 0
    try:
        answer = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    lines = answer.stdout.splitlines() if answer.returncode == 0 else []
    return sum(line.startswith("GPU ") for line in lines)
