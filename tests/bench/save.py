"""What training waits for when a snapshot is saved, against a blocking save of the same state to an S3 server.

The blocking save is what a trainer without an agent does: torch.save of everything, digests, upload, read back,
manifest. MiniLM with AdamW in fp32 and its weights: some 370 MB. Both in one process, in turns, on the same machine.
"""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Any

from tests.bench.row import Row
from tests.data import models
from tests.ground import objectstore
from tests.trainer.make import make_prepared, make_run, make_tasks
from tests.trainer.pool import call_in_worker

SAVES = 9
WARM_UP = 2
"""A save into each slot: its pages are met in the background while training goes on."""
GOAL = 0.02
MEMORY_BYTES = 2 << 30
SHARED_MEMORY = Path("/dev/shm")


def measure() -> Row:
    """Median seconds of the saves after a warm-up."""
    store = objectstore.start()
    bucket = store.make_bucket(f"bench-{uuid.uuid4().hex[:12]}")
    ours, blocking, size = call_in_worker(_take_turns, str(models.minilm()), f"s3://{bucket}/job", store.environment)
    ours, blocking = ours[WARM_UP:], blocking[WARM_UP:]
    return Row(
        what="stall of a save against a blocking save",
        measured=median(ours) / median(blocking),
        goal=GOAL,
        unit="x",
        how=f"{size / 1e6:.0f} MB, median of {len(ours)}: {median(ours) * 1e3:.0f} ms against {median(blocking):.2f} s",
        samples={"ours": ours, "blocking": blocking},
    )


def _take_turns(connection: Connection, model: str, uri: str, environment: Mapping[str, str]) -> None:
    """In a process of its own: both saves, one after the other, on the state after a step."""
    import torch

    from finetune_trainer.worker.assemble import assemble
    from finetune_trainer.worker.link import AgentLink
    from finetune_trainer.worker.ranks import join
    from finetune_trainer.worker.train import iterate_steps

    # The pool's workers have one thread; an agent gives its only worker every CPU of the pod.
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as memory:
        data = make_prepared(Path(folder) / "data", Path(model), sizes={"train": 512})
        run = make_run(epochs=None, max_steps=100, batch_size=4, micro_batch_size=4, evaluate_every_epochs=1e4)
        (task,) = make_tasks(run, Path(model), data, Path(folder), memory_dir=memory, memory_bytes=MEMORY_BYTES)
        near, far = Pipe()
        Thread(target=_release, args=(near,), daemon=True).start()
        assembled = assemble(task, join(task), AgentLink(far, 0))
        steps = iterate_steps(assembled)
        next(steps)
        blocking_save = _make_blocking_save(assembled, Path(folder), uri, environment)
        ours, blocking, size = [], [], 0
        for _ in range(SAVES):
            next(steps)
            state = assembled.state.model_copy(update={"evaluated_step": assembled.state.step})
            ours.append(_measure(lambda state=state: assembled.snapshots.write(state)))  # type: ignore[misc]
            began = time.perf_counter()
            size = blocking_save(assembled.state.step)
            blocking.append(time.perf_counter() - began)
        connection.send((ours, blocking, size))
    os._exit(0)


def _make_blocking_save(run: Any, folder: Path, uri: str, environment: Mapping[str, str]) -> Callable[[int], int]:
    """The same files by torch.save and safetensors, in the store before training goes on; returns their bytes."""
    from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
    from safetensors.torch import save_file

    from finetune_trainer.store.manifest import NodeFiles
    from finetune_trainer.store.store import Store
    from finetune_trainer.store.transfer import upload_files
    from finetune_trainer.worker.snapshot import ENGINE_TAG
    from finetune_trainer.worker.weights import find_weights

    engine, store = run.engine, Store.open(uri, dict(environment))
    raw, plain = engine.checkpoint_engine, TorchCheckpointEngine()

    def save(step: int) -> int:
        target = folder / "blocking"
        engine.checkpoint_engine = plain
        engine.save_checkpoint(str(target), tag=ENGINE_TAG, save_latest=False, exclude_frozen_parameters=True)
        engine.checkpoint_engine = raw
        save_file({name: tensor.detach() for name, tensor in find_weights(engine.module).items()}, target / "weights")
        names = [path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()]
        prefix = f"checkpoints/step-{step:08d}"
        files = upload_files(store, target, names, prefix, verify=True)
        manifest = NodeFiles(node=0, step=step, attempt=1, files=files)
        store.create(f"{prefix}/manifest.json", manifest.to_json(indent=2).encode())
        return sum(file.size for file in files.values())

    return save


def _measure(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    assert work()
    return time.perf_counter() - began


def _release(connection: Connection) -> None:
    """Hear what the loop says, as the agent would, and release each snapshot when the next one is complete."""
    from finetune_trainer.messages import AgentEnvelope, Envelope, Released, SnapshotReady

    former: SnapshotReady | None = None
    while True:
        message = Envelope.from_json(connection.recv_bytes()).message
        if isinstance(message, SnapshotReady):
            if former is not None:
                released = AgentEnvelope(message=Released(step=former.step, folder=former.folder))
                connection.send_bytes(released.to_json().encode())
            former = message
