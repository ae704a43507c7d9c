"""A run put together from a task: materials, engine, and the state that it goes on from."""

from __future__ import annotations

from pathlib import Path

from torch.nn import Module

from finetune_trainer.messages import WorkerTask
from finetune_trainer.worker.engine import make_deepspeed_config, make_engine
from finetune_trainer.worker.flops import count_flops_per_token, count_parameters, find_shape
from finetune_trainer.worker.link import AgentLink
from finetune_trainer.worker.materials import Materials, load_materials, load_model
from finetune_trainer.worker.meter import Meter
from finetune_trainer.worker.randomness import seed_everything
from finetune_trainer.worker.ranks import Ranks
from finetune_trainer.worker.resume import resume
from finetune_trainer.worker.schedule import make_schedule
from finetune_trainer.worker.snapshot import Snapshots
from finetune_trainer.worker.state import TrainerState
from finetune_trainer.worker.train import Run
from finetune_trainer.worker.votes import Votes


def assemble(task: WorkerTask, ranks: Ranks, link: AgentLink) -> Run:
    """Load everything, and resume where there is something to resume from. A collective."""
    materials = load_materials(task)
    schedule = make_schedule(task.run, len(materials.parts["train"]))
    config = make_deepspeed_config(task.run)
    engine = make_engine(load_model(materials, config), task.run, schedule, ranks, config)
    # Weights were made with one seed on all ranks; dropout has one of its own on each.
    seed_everything(task.run.spec.training.seed + ranks.rank)
    snapshots = Snapshots(engine, task, ranks, link)
    state = resume(engine, _make_fresh_state(task, materials), task, ranks, link)
    return Run(
        materials=materials,
        schedule=schedule,
        engine=engine,
        ranks=ranks,
        link=link,
        votes=Votes(ranks, link),
        meter=Meter(schedule, _count_flops(engine.module, materials)),
        snapshots=snapshots,
        attempt_dir=Path(task.attempt_dir),
        state=state,
        saved_step=state.step,
        skip_steps=frozenset(task.skip_steps),
    )


def _make_fresh_state(task: WorkerTask, materials: Materials) -> TrainerState:
    return TrainerState(
        world_size=task.world_size,
        zero_stage=task.run.resolved.zero_stage,
        seed=task.run.spec.training.seed,
        data_fingerprint=materials.prepared.summary.fingerprint,
    )


def _count_flops(model: Module, materials: Materials) -> float:
    total, trained, inner = count_parameters(model)
    layers, hidden_size = find_shape(model)
    lengths = materials.parts["train"].lengths
    return count_flops_per_token(inner, layers, hidden_size, float(lengths.mean()), trained == total)
