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
from typing import Any

from tests.bench.row import Row
from tests.data import models
from tests.trainer.assembled import assemble_alone, leave
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
        bare_step = _make_bare_loop(assembled)
        ours_step = iterate_steps(assembled)
        ours, bare = [], []
        # The last step of ours also evaluates and saves.
        for number in range(1, STEPS):
            ours.append(_measure(lambda: next(ours_step)))
            bare.append(_measure(lambda number=number: bare_step(number)))  # type: ignore[misc]
    leave(connection, (ours, bare))


def _make_bare_loop(run: Any) -> Callable[[int], None]:
    """The shortest loop that does the same: read the batch, forward, backward, step, and the loss now and then."""
    import deepspeed
    import torch

    from finetune_trainer.worker.engine import make_deepspeed_config
    from finetune_trainer.worker.materials import load_model
    from finetune_trainer.worker.steps import find_rows

    materials = run.materials
    config = make_deepspeed_config(materials.run)
    model = load_model(materials, config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=materials.run.resolved.learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)
    engine, _, _, _ = deepspeed.initialize(model=model, optimizer=optimizer, lr_scheduler=schedule, config=config)
    engine.train()

    def step(number: int) -> None:
        rows = find_rows(materials, run.schedule, number).tolist()
        batch = materials.parts["train"].read_batch(rows, materials.task, materials.tokenizer)
        loss = engine(**batch.inputs, labels=batch.targets["labels"]).loss
        engine.backward(loss)
        engine.step()
        if number % run.schedule.log_every == 0:
            loss.item()

    return step


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
