"""A snapshot: every rank's files in a slot of this node, and word to the agent, which verifies and uploads them.

slot-0/engine/...                    DeepSpeed: optimizer, scheduler, trained weights of this rank
slot-0/random-rank-<r>.pt            states of this rank's generators
slot-0/trainer_state.json            rank 0
slot-0/weights/model.safetensors     rank 0, when the step was evaluated: what is trained

Slots lie in shared memory, on disk where that does not suffice. Training waits for one copy of the state and nothing
else; only where the store is so slow that every slot is still needed, an evaluated step waits for one, and a step that
is saved only to resume from is left out.
"""

from __future__ import annotations

import errno
import logging
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from finetune_trainer.errors import FineTuneError
from finetune_trainer.messages import SnapshotReady, Warned, WorkerTask
from finetune_trainer.publish.figures import format_bytes
from finetune_trainer.worker.link import AgentLink
from finetune_trainer.worker.randomness import capture_states
from finetune_trainer.worker.ranks import Ranks
from finetune_trainer.worker.slots import MOST_SLOTS, PARKED, Slots, count_slots
from finetune_trainer.worker.snapshot_files import RawCheckpointEngine, SnapshotFiles
from finetune_trainer.worker.state import FILE_STATE, TrainerState
from finetune_trainer.worker.weights import FILE_WEIGHTS, WEIGHTS_FOLDER, save_weights

ENGINE_TAG: Final = "engine"
SNAPSHOTS_FOLDER: Final = "snapshots"
FILE_LAYOUT: Final = "layout"
"""In a slot: which ranks have written there."""
WAIT_SECONDS: Final = 0.2

logger = logging.getLogger(__name__)


def random_file(rank: int) -> str:
    """Name of the file with the states of a rank's generators."""
    return f"random-rank-{rank}.pt"


class Snapshots:
    """Writes one rank's snapshots; all ranks have to call the same methods in the same order."""

    def __init__(self, engine: Any, task: WorkerTask, ranks: Ranks, link: AgentLink) -> None:
        """From here on `engine` also reads and writes its checkpoints as state files (tensor_files.py)."""
        self._engine = engine
        self._task = task
        self._ranks = ranks
        self._link = link
        self._files = SnapshotFiles()
        self._sizes: dict[Path, int] = {}
        self._slots: Slots | None = None
        self._on_disk = False
        self._is_full = False
        engine.checkpoint_engine = RawCheckpointEngine(self._files, engine.module)

    def prepare(self, state: TrainerState) -> None:
        """After the first step: find out how large a snapshot is, choose the slots, and have their pages ready soon."""
        if self._slots is not None:
            return
        plan = Path(self._task.attempt_dir) / "plan"
        self._files.begin(planning=True)
        self._write(plan, state, evaluated=True)
        self._sizes = {path.relative_to(plan): size for path, size in self._files.sizes.items()}
        if self._ranks.local_rank == 0:
            shutil.rmtree(plan, ignore_errors=True)
        sizes = self._ranks.gather((self._task.node, sum(self._sizes.values())))
        needed = sum(size for node, size in sizes if node == self._task.node)
        there = self._task.memory_bytes * self._task.local_world_size if self._task.memory_dir else 0
        count = count_slots(there, needed)
        if not count:
            why = f"two snapshots of {format_bytes(needed)} do not fit into {format_bytes(there)} of shared memory"
            self._slots = self._move_to_disk(why)
        else:
            self._slots = Slots(Path(self._task.memory_dir), count, self._task.held_slots)
            self._clean(self._slots.find_free())
        self._ranks.barrier()
        if count:
            threading.Thread(target=self._warm, args=(self._slots.find_free(),), name="warm-slots", daemon=True).start()

    def write(self, state: TrainerState, *, stopping: bool = False) -> bool:
        """Write this rank's files of a checkpoint and tell the agent; False where this step was left out. A collective.

        Raises FineTuneError where there is no room.
        """
        self.prepare(state)
        evaluated = state.evaluated_step == state.step
        self._link.beat("saving", state.step)
        folder = self._acquire(state.step, must=evaluated or stopping)
        if folder is None:
            return False
        assert self._slots is not None
        self._slots.take(folder, state.step)
        self._make_ready(folder, evaluated)
        self._files.begin()
        try:
            self._write(folder, state, evaluated)
        except OSError as error:
            raise _describe_error(error, folder) from error
        self._ranks.barrier()
        self._slots.complete(folder, state.step)
        self._link.send(self._make_message(folder, state, evaluated))
        return True

    def find_weights(self, step: int) -> Path | None:
        """The folder of this step's weights, where its snapshot still lies here."""
        slot = self._slots.find_step(step) if self._slots else None
        return slot / WEIGHTS_FOLDER if slot else None

    def _write(self, folder: Path, state: TrainerState, evaluated: bool) -> None:
        ranks, files = self._ranks, self._files
        self._engine.save_checkpoint(str(folder), tag=ENGINE_TAG, save_latest=False, exclude_frozen_parameters=True)
        files.write_state(folder / random_file(ranks.rank), capture_states(ranks.device))
        if evaluated:
            save_weights(self._engine.module, files, folder / WEIGHTS_FOLDER / FILE_WEIGHTS, keep=ranks.is_first)
        if ranks.is_first and not files.planning:
            text = state.to_json()
            files.sizes[folder / FILE_STATE] = len(text)
            (folder / FILE_STATE).write_text(text)

    def _acquire(self, step: int, must: bool) -> Path | None:
        """A free slot, the same for all ranks of this node; None where a node has none and the step may be left out."""
        has_warned = False
        while True:
            free = self._find_common()
            if all(free.values()):
                return Path(min(free[self._task.node]))
            if not free[self._task.node] and not has_warned:
                self._warn_of_slow_store(step, must)
                has_warned = True
            if not must:
                return None
            self._link.beat("saving", step)
            time.sleep(WAIT_SECONDS)

    def _find_common(self) -> dict[int, set[str]]:
        """By node: the slots that all its ranks know to be free. The same on every rank."""
        assert self._slots is not None
        for released in self._link.take_released():
            self._slots.release(released.folder)
        is_full = self._is_full and not self._on_disk
        known = self._ranks.gather((self._task.node, self._slots.find_free(), is_full))
        short = {node for node, _, full in known if full}
        if self._task.node in short:
            self._slots = self._move_to_disk("something else has filled shared memory")
        if short:
            return self._find_common()
        common: dict[int, set[str]] = {}
        for node, free, _ in known:
            common[node] = common.get(node, set(free)) & set(free)
        return common

    def _move_to_disk(self, why: str) -> Slots:
        self._on_disk = True
        if self._task.memory_dir and self._ranks.local_rank == 0:
            self._warn(
                f"snapshots go to the disk of node {self._task.node}, and saving takes longer: {why}; "
                "raise pod.sharedMemory or resources.memory"
            )
        return Slots(Path(self._task.attempt_dir) / SNAPSHOTS_FOLDER, MOST_SLOTS)

    def _warm(self, folders: Sequence[str]) -> None:
        """Meet the pages of all slots, in the background."""
        try:
            for folder in folders:
                for path, size in self._sizes.items():
                    self._files.open(Path(folder) / path).touch(size)
        except OSError as error:
            logger.warning("shared memory cannot be used: %s", error)
            self._is_full = True

    def _clean(self, folders: Sequence[str]) -> None:
        """First rank of a node: remove what ranks of another world have left in these slots."""
        if self._ranks.local_rank != 0:
            return
        layout = f"{self._task.world_size} {self._task.rank} {self._task.run.resolved.zero_stage}"
        for folder in map(Path, folders):
            mark = folder / FILE_LAYOUT
            if not (mark.is_file() and mark.read_text() == layout):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                mark.write_text(layout)
            _unpark(folder)

    def _make_ready(self, folder: Path, evaluated: bool) -> None:
        """Put aside what this step does not write; DeepSpeed's engine lets all ranks wait for this."""
        self._clean([str(folder)])
        if self._ranks.local_rank == 0 and not evaluated and (folder / WEIGHTS_FOLDER).exists():
            shutil.rmtree(folder / PARKED, ignore_errors=True)
            (folder / WEIGHTS_FOLDER).rename(folder / PARKED)

    def _make_message(self, folder: Path, state: TrainerState, evaluated: bool) -> SnapshotReady:
        speaks = self._ranks.is_first
        figures: dict[str, float | int | str] = {
            "consumed_samples": state.consumed_samples,
            "world_size": state.world_size,
            "zero_stage": state.zero_stage,
            "seed": state.seed,
            "epoch": state.epoch,
        }
        return SnapshotReady(
            rank=self._ranks.rank,
            step=state.step,
            folder=str(folder),
            files=tuple(sorted(path.relative_to(folder).as_posix() for path in self._files.sizes)),
            metrics=state.metrics if speaks and evaluated else {},
            best=speaks and evaluated and state.best.step == state.step,
            state=figures if speaks else {},
        )

    def _warn_of_slow_store(self, step: int, must: bool) -> None:
        if self._ranks.local_rank == 0:
            effect = "training waits to save" if must else "no resume point is saved at"
            self._warn(
                f"{effect} step {step}: {self._task.run.destination} takes checkpoints more slowly than they come; "
                "look at its speed, or raise checkpoints.everySteps or pod.sharedMemory"
            )

    def _warn(self, message: str) -> None:
        """The agent says it in the log as well."""
        self._link.send(Warned(message=message))


def _unpark(folder: Path) -> None:
    weights, parked = folder / WEIGHTS_FOLDER, folder / PARKED
    if parked.exists() and not weights.exists():
        parked.rename(weights)


def _describe_error(error: OSError, folder: Path) -> FineTuneError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return FineTuneError(
            f"{folder}: there is no room for a snapshot ({error.strerror}); free the disk, or raise pod.sharedMemory "
            "or resources.memory"
        )
    return FineTuneError(f"{folder}: a snapshot could not be written ({error.strerror}); see the log of this rank")
