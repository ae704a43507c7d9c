"""A checkpoint on local disk: every rank's files, and word to the agent, which verifies and uploads them.

step-00000100/engine/...              DeepSpeed: optimizer, scheduler, trained weights of this rank
step-00000100/random-rank-<r>.pt      states of this rank's generators
step-00000100/trainer_state.json      rank 0
step-00000100/weights/model.safetensors   rank 0, when the step was evaluated: what is trained
"""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path
from typing import Any, Final

from finetune_trainer.messages import SnapshotReady
from finetune_trainer.worker.link import AgentLink
from finetune_trainer.worker.randomness import write_states
from finetune_trainer.worker.ranks import Ranks
from finetune_trainer.worker.state import FILE_STATE, TrainerState
from finetune_trainer.worker.weights import WEIGHTS_FOLDER, gather_weights, write_weights

ENGINE_TAG: Final = "engine"
SNAPSHOTS_FOLDER: Final = "snapshots"
BEST_FOLDER: Final = "best"


def random_file(rank: int) -> str:
    """Name of the file with the states of a rank's generators."""
    return f"random-rank-{rank}.pt"


def write_snapshot(engine: Any, state: TrainerState, attempt_dir: Path, ranks: Ranks, link: AgentLink) -> float:
    """Write this rank's files of a checkpoint and tell the agent; return the seconds that it took. A collective."""
    began = time.monotonic()
    link.beat("saving", state.step)
    folder = attempt_dir / SNAPSHOTS_FOLDER / f"step-{state.step:08d}"
    engine.save_checkpoint(str(folder), tag=ENGINE_TAG, save_latest=False, exclude_frozen_parameters=True)
    write_states(folder / random_file(ranks.rank), ranks.device)
    evaluated = state.evaluated_step == state.step
    if evaluated:
        weights = gather_weights(engine.module, keep=ranks.is_first)
        if ranks.is_first:
            write_weights(weights, folder / WEIGHTS_FOLDER)
    if ranks.is_first:
        (folder / FILE_STATE).write_text(state.to_json())
        if evaluated and state.best.step == state.step:
            _keep_best(folder / WEIGHTS_FOLDER, attempt_dir / BEST_FOLDER)
    ranks.barrier()
    link.send(_make_message(folder, state, evaluated, ranks))
    return time.monotonic() - began


def _make_message(folder: Path, state: TrainerState, evaluated: bool, ranks: Ranks) -> SnapshotReady:
    # DeepSpeed also leaves scripts there, which are nothing that a resume needs.
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".py"]
    files = [path.relative_to(folder).as_posix() for path in paths]
    speaks = ranks.is_first
    return SnapshotReady(
        rank=ranks.rank,
        step=state.step,
        folder=str(folder),
        files=tuple(file for file in files if is_written_by(file, ranks.rank, ranks.local_rank)),
        metrics=state.metrics if speaks and evaluated else {},
        best=speaks and evaluated and state.best.step == state.step,
        state={
            "consumed_samples": state.consumed_samples,
            "world_size": state.world_size,
            "zero_stage": state.zero_stage,
            "seed": state.seed,
            "epoch": state.epoch,
        }
        if speaks
        else {},
    )


def is_written_by(file: str, rank: int, local_rank: int) -> bool:
    """Whether a file of a checkpoint folder is this rank's; what bears no rank is the node's first rank's. Pure."""
    owner = re.search(r"(?:zero_pp_rank|random-rank)[_-](\d+)", file)
    return int(owner.group(1)) == rank if owner else local_rank == 0


def _keep_best(weights: Path, best: Path) -> None:
    # Linked, so that the agent may remove the snapshot once it is uploaded.
    shutil.rmtree(best, ignore_errors=True)
    best.mkdir(parents=True)
    for file in weights.iterdir():
        os.link(file, best / file.name)
