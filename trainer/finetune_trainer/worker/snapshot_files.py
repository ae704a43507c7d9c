"""The files of one rank's snapshots: written by DeepSpeed's engine and by us, each mapped once in a worker's life.

A snapshot can be planned without being written: then only the sizes are found out.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointEngine
from torch import Tensor
from torch.nn import Module

from finetune_trainer.errors import FineTuneError
from finetune_trainer.worker.mapped_files import MappedFile
from finetune_trainer.worker.tensor_files import is_state_file, plan_layout, read_state, write_layout

TORCH_MAGIC: Final = b"PK"
"""Files of torch.save are archives."""


class SnapshotFiles:
    """What was written since `begin`, and the open files by their paths."""

    def __init__(self) -> None:
        self.planning = False
        self.sizes: dict[Path, int] = {}
        self._open: dict[Path, MappedFile] = {}
        self._lock = threading.Lock()

    def begin(self, *, planning: bool = False) -> None:
        """A new snapshot; `planning`: nothing is written, only `sizes` grows."""
        self.planning, self.sizes = planning, {}

    def open(self, path: Path) -> MappedFile:
        """The file of a path, mapped at its first use."""
        with self._lock:
            if path not in self._open:
                self._open[path] = MappedFile(path)
            return self._open[path]

    def write_state(self, path: Path, state: Any) -> None:
        """A state file (tensor_files.py). Raises OSError where there is no room."""
        layout = plan_layout(state)
        self.sizes[path] = layout.total_size
        if not self.planning:
            write_layout(layout, self.open(path))


class RawCheckpointEngine(CheckpointEngine):  # type: ignore[misc]
    """DeepSpeed's way to files: states are copied instead of serialized.

    What DeepSpeed's converter wrote (torch's own format) is read as well. Reading unpickles: digests come first.
    """

    def __init__(self, files: SnapshotFiles, module: Module) -> None:
        super().__init__()
        self.name = type(self).__name__
        self._files = files
        self._frozen = find_frozen_names(module)

    def create(self, info: Any) -> None:
        """Nothing to begin."""

    def save(self, state_dict: dict[str, Any], path: str) -> None:
        """Write one state; DeepSpeed passes the arguments by these names."""
        self._files.write_state(Path(path), drop_frozen(state_dict, self._frozen))

    def load(self, path: str, map_location: Any = None) -> Any:
        """Read one state, on the CPU. Raises FineTuneError where the file is damaged."""
        if is_state_file(Path(path)):
            return read_state(Path(path))
        with Path(path).open("rb") as file:
            if file.read(len(TORCH_MAGIC)) != TORCH_MAGIC:
                raise FineTuneError(f"{path}: this is no complete state file of this version; it was cut off")
        return torch.load(path, map_location=map_location, weights_only=False)

    def commit(self, info: Any) -> bool:
        """The agent is told by the ranks when all files are there."""
        return True

    def preserves_storage_sharing(self) -> bool:
        """Views are written without the rest of their storage."""
        return False


def find_frozen_names(module: Module) -> frozenset[str]:
    """Names of parameters that are not trained, all names of each."""
    named = module.named_parameters(remove_duplicate=False)
    return frozenset(name for name, parameter in named if not parameter.requires_grad)


def drop_frozen(state: Mapping[str, Any], frozen: frozenset[str]) -> dict[str, Any]:
    """DeepSpeed's state without frozen weights: it leaves out one name of a tied weight and keeps the other."""
    weights = state.get("module")
    if not isinstance(weights, dict):
        return dict(state)
    kept: dict[str, Tensor] = {name: tensor for name, tensor in weights.items() if name not in frozen}
    return {**state, "module": kept}
