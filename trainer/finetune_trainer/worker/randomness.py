"""Everything random in a worker: seeds, and the states that make a resume exact."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finetune_trainer.worker.tensor_files import read_state


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def seed_for_step(seed: int, step: int, rank: int) -> None:
    """Seed a rank that goes on after `step` at another world size, where no saved state is its own."""
    (mixed,) = np.random.SeedSequence((seed, step, rank)).generate_state(1)
    seed_everything(int(mixed))


def capture_states(device: torch.device) -> dict[str, Any]:
    """States of all generators, as tensors and plain numbers."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    version, internal, next_gauss = random.getstate()
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss), gauss],
        "python": [version, list(internal), next_gauss],
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_states(states: dict[str, Any], device: torch.device) -> None:
    """Set all generators to captured states."""
    torch.set_rng_state(states["torch"])
    kind, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    version, internal, next_gauss = states["python"]
    random.setstate((version, tuple(internal), next_gauss))
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


def read_states(path: Path, device: torch.device) -> None:
    """Set all generators from a state file (tensor_files.py) of `capture_states`. Raises FineTuneError."""
    restore_states(read_state(path), device)
