"""What each local worker is told at its start. Makes folders; starts nothing."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from finetune_contract.attempt import Attempt
from finetune_trainer.agent.inputs import Inputs
from finetune_trainer.agent.site import Site
from finetune_trainer.messages import Offer, WorkerTask

FILE_MARKS = "marks"


def make_tasks(site: Site, attempt: Attempt, inputs: Inputs, offers: Sequence[Offer]) -> tuple[WorkerTask, ...]:
    """One task a local worker; a node's place among the members gives its ranks. Makes the attempt's folder."""
    run, node, nodes = site.settings.run.for_attempt(attempt), site.settings.node, attempt.node_indexes
    local_world_size = run.resolved.workers_per_node
    attempt_dir = site.settings.attempt_dir(attempt.number)
    held = {str(snapshot.folder) for snapshot in site.held.snapshots}
    _remove_old(site.settings.work_dir, attempt_dir, held)
    attempt_dir.mkdir(parents=True, exist_ok=True)
    return tuple(
        WorkerTask(
            run=run,
            attempt=attempt.number,
            rank=nodes.index(node) * local_world_size + local_rank,
            local_rank=local_rank,
            world_size=run.resolved.world_size,
            local_world_size=local_world_size,
            node=node,
            master=attempt.master,
            model_dir=str(inputs.model),
            data_dir=str(inputs.data),
            attempt_dir=str(attempt_dir),
            offers=tuple(offers),
            best_dir=str(inputs.best) if inputs.best else None,
            memory_dir=str(site.memory.folder or ""),
            memory_bytes=site.memory.find_room(local_world_size),
            held_slots=tuple(sorted(held)),
            marks_file=str(attempt_dir / FILE_MARKS),
            skip_steps=attempt.skip_steps,
        )
        for local_rank in range(local_world_size)
    )


def _remove_old(work_dir: Path, attempt_dir: Path, held: Collection[str]) -> None:
    """Remove what earlier attempts have left, but for snapshots that are held."""
    for older in work_dir.glob("attempt-*"):
        if older != attempt_dir:
            slots = [slot for slot in (older / "snapshots").glob("slot-*") if str(slot) not in held]
            for folder in (*slots, older / "export"):
                shutil.rmtree(folder, ignore_errors=True)
