"""Going on from the newest checkpoint that every rank holds and can load."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune_trainer.errors import FineTuneError, UserError
from finetune_trainer.messages import Resumed
from finetune_trainer.worker.link import AgentLink
from finetune_trainer.worker.randomness import read_states
from finetune_trainer.worker.ranks import Ranks
from finetune_trainer.worker.snapshot import ENGINE_TAG, random_file
from finetune_trainer.worker.state import FILE_STATE, TrainerState

logger = logging.getLogger(__name__)


def resume(engine: Any, fresh: TrainerState, folders: Sequence[str], ranks: Ranks, link: AgentLink) -> TrainerState:
    """Load the newest common checkpoint into the engine and the generators, or stay at `fresh`. A collective.

    Raises `UserError` where a checkpoint was written by another number of processes, `FineTuneError` where none of
    them can be loaded.
    """
    own = {Path(folder).name: Path(folder) for folder in folders}
    offers = ranks.gather(list(own))
    candidates = choose_common(offers)
    skipped = [f"{name}: not held by every worker" for name in offers[0] if name not in candidates]
    for name in candidates:
        state = _read_state(own[name], ranks)
        problem = find_mismatch(state, fresh) if state else f"no {FILE_STATE}"
        if state and not problem:
            problem = _load(engine, own[name], ranks)
            if not problem:
                _report(state.step, skipped, ranks, link)
                return state
        skipped.append(f"{name}: {problem}")
    if candidates:
        raise FineTuneError(f"no checkpoint could be loaded ({'; '.join(skipped)}); start the job under another name")
    return fresh


def choose_common(offers: Sequence[Sequence[str]]) -> list[str]:
    """Checkpoints that every rank offers, in the order of rank 0 (newest first). Pure."""
    return [name for name in offers[0] if all(name in offer for offer in offers)]


def find_mismatch(state: TrainerState, fresh: TrainerState) -> str:
    """Why a checkpoint does not belong to this run; empty where it does. Pure.

    Raises `UserError` for another world size: such checkpoints are good, but have to be converted first.
    """
    if state.world_size != fresh.world_size:
        raise UserError(
            f"the checkpoint of step {state.step} was written by {state.world_size} processes and this attempt has "
            f"{fresh.world_size}; start with {state.world_size} processes again"
        )
    if state.zero_stage != fresh.zero_stage:
        return f"ZeRO stage {state.zero_stage}, and the job has {fresh.zero_stage}"
    if state.data_fingerprint != fresh.data_fingerprint:
        return "trained on other data"
    return ""


def _read_state(folder: Path, ranks: Ranks) -> TrainerState | None:
    text = None
    if ranks.is_first and (folder / FILE_STATE).is_file():
        text = (folder / FILE_STATE).read_text()
    text = ranks.broadcast(text)
    return TrainerState.from_json(text) if text else None


def _load(engine: Any, folder: Path, ranks: Ranks) -> str:
    problem = ""
    try:
        loaded, _ = engine.load_checkpoint(str(folder), tag=ENGINE_TAG, load_module_strict=False)
        if loaded is None:
            problem = "DeepSpeed's files are missing"
        else:
            read_states(folder / random_file(ranks.rank), ranks.device)
    except Exception as error:
        logger.exception("checkpoint %s could not be loaded", folder.name)
        problem = f"{type(error).__name__}: {error}"
    return next((found for found in ranks.gather(problem) if found), "")


def _report(step: int, skipped: list[str], ranks: Ranks, link: AgentLink) -> None:
    if ranks.is_first:
        logger.info("resumed from step %d", step)
        link.send(Resumed(step=step, skipped=tuple(skipped)))
