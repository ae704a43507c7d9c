"""Our training loop against a bare DeepSpeed loop: the same model, the same batches, steps taken in turns.

One process, one thread for arithmetic. What is compared is CPU time a step, all threads of the process together, and
what a loop's own threads still do after its step belongs to it: the machine may be busy with other things meanwhile.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

from tests.bench.row import Row
from tests.data import models
from tests.trainer.assembled import assemble_alone, leave
from tests.trainer.bare import iterate_bare_steps
from tests.trainer.make import make_prepared, make_run, make_tasks
from tests.trainer.pool import call_in_worker

STEPS = 225
WARM_UP = 20
BATCH_SIZE = 4
GOAL = 1.02
IDLE_SECONDS = 0.002


def measure() -> Row:
    """Median CPU seconds of 200 steps of each loop, after a warm-up."""
    ours, bare = call_in_worker(_take_turns, str(models.minilm()))
    ours, bare = ours[WARM_UP:], bare[WARM_UP:]
    return Row(
        what="our loop against a bare deepspeed loop",
        measured=median(ours) / median(bare),
        goal=GOAL,
        unit="x",
        how=f"CPU a step, median of {len(ours)}: {median(ours) * 1e3:.1f} ms against {median(bare) * 1e3:.1f} ms",
        samples={"ours": ours, "bare": bare},
    )


def _take_turns(connection: Connection, model: str) -> None:
    """In a process of its own: both loops, step by step."""
    from finetune_trainer.worker.train import iterate_steps

    with tempfile.TemporaryDirectory() as folder:
        data = make_prepared(Path(folder) / "data", Path(model), sizes={"train": 512})
        run = make_run(
            epochs=None, max_steps=STEPS, batch_size=BATCH_SIZE, micro_batch_size=BATCH_SIZE, evaluate_every_epochs=1e4
        )
        (task,) = make_tasks(run, Path(model), data, Path(folder))
        assembled = assemble_alone(task)
        bare_steps = iterate_bare_steps(assembled)
        our_steps = iterate_steps(assembled)
        ours, bare = [], []
        # The last step of ours also evaluates and saves.
        for _ in range(1, STEPS):
            ours.append(_measure(lambda: next(our_steps)))
            bare.append(_measure(lambda: next(bare_steps)))
    leave(connection, (ours, bare))


def _measure(step: Callable[[], object]) -> float:
    """CPU seconds of a step, until all threads of this process rest again."""
    began = time.process_time()
    step()
    busy = time.process_time()
    while True:
        time.sleep(IDLE_SECONDS)
        now = time.process_time()
        if now - busy < IDLE_SECONDS / 10:
            return now - began
        busy = now
