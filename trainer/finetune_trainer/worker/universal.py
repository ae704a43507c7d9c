"""A checkpoint for another number of processes, in DeepSpeed's universal layout: each parameter whole, in own files.

    python -m finetune_trainer.worker.universal --input FOLDER --output FOLDER

converts the files of all nodes, gathered in one folder. A process of its own, started by the agent without credentials:
DeepSpeed unpickles what it reads, and the agent itself stays without torch.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from deepspeed.checkpoint import ds_to_universal

from finetune_trainer.logs import speak_to_agent
from finetune_trainer.worker.snapshot import ENGINE_TAG
from finetune_trainer.worker.state import FILE_STATE
from finetune_trainer.worker.tensor_files import write_torch_files


def convert(source: Path, target: Path) -> None:
    """Write the universal form of the checkpoint in `source` into `target`, which then can be loaded in its place."""
    readable = target / "readable"
    write_torch_files(source / ENGINE_TAG, readable)
    ds_to_universal.main(
        argparse.Namespace(
            input_folder=str(readable),
            output_folder=str(target / ENGINE_TAG),
            num_extract_workers=1,
            num_merge_workers=1,
            keep_temp_folder=False,
            strict=True,
            # DeepSpeed asks for a note that only its Megatron fork writes; without one nothing is split by tensor.
            inject_missing_state=True,
        )
    )
    shutil.rmtree(readable)
    shutil.copy2(source / FILE_STATE, target / FILE_STATE)


def load_as_universal(engine: Any, folder: Path, tag: str) -> None:
    """Load a converted checkpoint. Raises what DeepSpeed raises."""
    optimizer = engine.optimizer
    decays = [group["weight_decay"] for group in optimizer.optimizer.param_groups]
    # Read by DeepSpeed whenever it loads; this engine saves and otherwise loads its own layout.
    engine._config.load_universal_checkpoint = True
    _bear_empty_groups(optimizer)
    try:
        engine.load_checkpoint(str(folder), tag=tag, load_module_strict=False)
    finally:
        engine._config.load_universal_checkpoint = False
    _mend(optimizer.optimizer, decays)


class _Nothing:
    """Stands for the parameters of a group of which this rank holds no part."""

    @property
    def _hp_mapping(self) -> _Nothing:
        return self

    def load_hp_checkpoint_state(self, *_: object, **__: object) -> None:
        """No step to tell."""

    def get_optim_state_keys(self) -> tuple[str, ...]:
        return ()


def _bear_empty_groups(optimizer: Any) -> None:
    """DeepSpeed's loader at ZeRO 1 and 2 asks every group for its step, also one of which a rank has only padding."""
    load = optimizer.load_hp_checkpoint_state_from_checkpoint_dir
    nothing = _Nothing()

    def load_with_fillers(groups_name: str, folder: str) -> None:
        groups = getattr(optimizer, groups_name)
        empty = [group for group in groups if all(parameter._hp_mapping is None for parameter in group)]
        optimizer.param_names[nothing] = ""
        for group in empty:
            group.append(nothing)
        try:
            load(groups_name, folder)
        finally:
            del optimizer.param_names[nothing]
            for group in empty:
                group.pop()

    optimizer.load_hp_checkpoint_state_from_checkpoint_dir = load_with_fillers


def _mend(optimizer: torch.optim.Optimizer, decays: list[float]) -> None:
    """What DeepSpeed's loader at ZeRO 3 mixes up: the first group's settings in all, one step counter for all."""
    for group, decay in zip(optimizer.param_groups, decays, strict=True):
        group["weight_decay"] = decay
    for state in optimizer.state.values():
        if isinstance(step := state.get("step"), torch.Tensor):
            state["step"] = step.clone()


def main() -> None:
    """Convert, as the command line says."""
    parser = argparse.ArgumentParser(description="Convert a checkpoint to DeepSpeed's universal layout.")
    parser.add_argument("--input", type=Path, required=True, help="folder with the files of all nodes")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args()
    convert(arguments.input, arguments.output)


if __name__ == "__main__":
    speak_to_agent(sys.stderr)
    main()
