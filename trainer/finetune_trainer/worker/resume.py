"""Going on from the newest checkpoint that every rank has: in shared memory, or brought by the agent.

All ranks choose, load and pass over together, so that no two of them ever go on from different steps.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune_trainer.errors import UserError
from finetune_trainer.messages import Fetched, Offer, Resumed, WorkerTask
from finetune_trainer.worker.link import AgentLink
from finetune_trainer.worker.randomness import read_states, seed_for_step
from finetune_trainer.worker.ranks import Ranks
from finetune_trainer.worker.snapshot import ENGINE_TAG, random_file
from finetune_trainer.worker.state import FILE_STATE, TrainerState
from finetune_trainer.worker.tensor_files import is_state_file
from finetune_trainer.worker.universal import load_as_universal

logger = logging.getLogger(__name__)


def resume(engine: Any, fresh: TrainerState, task: WorkerTask, ranks: Ranks, link: AgentLink) -> TrainerState:
    """Load the newest common checkpoint into the engine and the generators, or stay at `fresh`. A collective.

    What is incomplete on one rank is passed over by all before anything is loaded: a load that fails half way would
    leave some ranks changed, and others waiting. Raises `UserError` where nothing can be loaded since what is there
    belongs to another run, and what DeepSpeed raises where it cannot load what is complete.
    """
    everyones = ranks.gather([offer.name for offer in task.offers])
    skipped: list[str] = []
    foreign = False
    for name in choose_common(everyones):
        brought, problem = _bring(name, task, ranks, link)
        state = None if problem else _read_state(brought, ranks)
        if state is None:
            problem = problem or f"it has no {FILE_STATE}"
        elif mismatch := find_mismatch(state, fresh):
            foreign, problem = True, mismatch
        else:
            problem = find_unwanted(state, task.skip_steps) or _find_damage(brought, state, ranks)
            if not problem:
                _load(engine, brought, state, ranks)
                _report(state.step, [*find_unshared(everyones, newer_than=name), *skipped], ranks, link)
                return state.model_copy(update={"world_size": fresh.world_size})
        skipped.append(f"checkpoint {name} is passed over: {problem}")
    if foreign:
        raise UserError(f"no checkpoint fits this job ({'; '.join(skipped)}); start the job under another name")
    _report(0, [*find_unshared(everyones), *skipped], ranks, link)
    return fresh


def choose_common(offers: Sequence[Sequence[str]]) -> list[str]:
    """Checkpoints that every rank is offered, in the order of rank 0 (newest first). Pure."""
    return [name for name in offers[0] if all(name in offer for offer in offers)]


def find_unshared(offers: Sequence[Sequence[str]], newer_than: str = "") -> list[str]:
    """What to say of checkpoints that only some ranks are offered. Pure; names sort by step."""
    common = choose_common(offers)
    partial = {name for offer in offers for name in offer if name not in common and name > newer_than}
    return [f"checkpoint {name} is passed over: not every node has it" for name in sorted(partial, reverse=True)]


def find_mismatch(state: TrainerState, fresh: TrainerState) -> str:
    """Why a checkpoint does not belong to this run; empty where it does. Pure."""
    if state.zero_stage != fresh.zero_stage:
        return f"it was written at ZeRO stage {state.zero_stage}, and the job has {fresh.zero_stage}"
    if state.data_fingerprint != fresh.data_fingerprint:
        return "it was trained on other data"
    return ""


def find_unwanted(state: TrainerState, skip_steps: Sequence[int]) -> str:
    """Why this attempt shall not go on from a checkpoint: steps that it passes over are in the weights. Pure."""
    learnt = [step for step in skip_steps if step <= state.step and step not in state.skipped_steps]
    return f"it was trained on step {learnt[0]}, which is passed over now" if learnt else ""


def _bring(name: str, task: WorkerTask, ranks: Ranks, link: AgentLink) -> tuple[Fetched, str]:
    """Where this node has the checkpoint, and why some node does not have it. The first local rank asks the agent."""
    brought = None
    if ranks.local_rank == 0:
        offer = next(offer for offer in task.offers if offer.name == name)
        held = _is_held(offer, ranks)
        brought = Fetched(name=name, path=offer.path) if held else link.fetch(name, ranks.world_size)
    everywhere = ranks.gather(brought)
    problem = next((node.problem or "it could not be brought" for node in everywhere if node and not node.path), "")
    own = everywhere[ranks.rank - ranks.local_rank]
    assert own is not None
    return own, problem


def _is_held(offer: Offer, ranks: Ranks) -> bool:
    """Whether its files lie here and are this rank's: a node's place among the members may have changed."""
    if offer.path is None or (ranks.is_first and not (Path(offer.path) / FILE_STATE).is_file()):
        return False
    return offer.world_size != ranks.world_size or (Path(offer.path) / random_file(ranks.rank)).is_file()


def _read_state(brought: Fetched, ranks: Ranks) -> TrainerState | None:
    text = None
    if ranks.is_first and (file := Path(brought.path or "") / FILE_STATE).is_file():
        text = file.read_text()
    text = ranks.broadcast(text)
    return TrainerState.from_json(text) if text else None


def _find_damage(brought: Fetched, state: TrainerState, ranks: Ranks) -> str:
    """What some rank misses of a checkpoint. A collective."""
    problem = find_missing_files(Path(brought.path or ""), ranks, state, universal=brought.universal)
    return next((found for found in ranks.gather(problem) if found), "")


def find_missing_files(folder: Path, ranks: Ranks, state: TrainerState, *, universal: bool) -> str:
    """Which file of this rank is missing or cut off; empty where all are there."""
    engine_files, needed = folder / ENGINE_TAG, ["*model_states.pt"]
    if state.world_size == ranks.world_size and state.zero_stage > 0:
        needed.append(f"*zero_pp_rank_{ranks.rank}_*optim_states.pt")
    if missing := [pattern for pattern in needed if not any(engine_files.glob(pattern))]:
        return f"DeepSpeed's file {missing[0]} is missing"
    if universal:
        return ""
    files = sorted(engine_files.glob("*.pt"))
    if state.world_size == ranks.world_size:
        files.append(folder / random_file(ranks.rank))
    damaged = next((file for file in files if not (file.is_file() and is_state_file(file))), None)
    return f"{damaged.name} is missing or cut off" if damaged else ""


def _load(engine: Any, brought: Fetched, state: TrainerState, ranks: Ranks) -> None:
    folder = Path(brought.path or "")
    try:
        if brought.universal:
            load_as_universal(engine, folder, ENGINE_TAG)
        else:
            engine.load_checkpoint(str(folder), tag=ENGINE_TAG, load_module_strict=False)
        if state.world_size == ranks.world_size:
            read_states(folder / random_file(ranks.rank), ranks.device)
        else:
            seed_for_step(state.seed, state.step, ranks.rank)
    except Exception:
        # Told by the worker's end, as what it is: a lost peer, memory, a fault of ours.
        logger.error("checkpoint %s is complete and could not be loaded", brought.name)
        raise


def _report(step: int, skipped: list[str], ranks: Ranks, link: AgentLink) -> None:
    if ranks.is_first:
        if skipped and not step:
            skipped.append("no checkpoint could be used: training begins again from the pre-trained model")
        link.send(Resumed(step=step, skipped=tuple(skipped)))
