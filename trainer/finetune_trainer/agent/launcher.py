"""Starts workers from a forkserver that has the heavy imports done (0.8 s to the first all-reduce instead of 12.5 s).

The forkserver is started at pod start and imports while data is prepared. Workers inherit its environment, which has no
credentials. Python's own forkserver waits for the workers and reports their exit codes, so the agent may reap orphans.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from finetune_contract.run import RunConfig
from finetune_trainer.agent.cgroup import count_usable_cpus
from finetune_trainer.agent.child_log import ChildLog
from finetune_trainer.agent.entry import enter
from finetune_trainer.agent.log_format import Origin
from finetune_trainer.errors import FineTuneError

WORKER_TARGET = "finetune_trainer.worker.run.main"
WORKER_PRELOAD = ("torch", "transformers", "deepspeed", "finetune_trainer.worker.run")
READ_BYTES = 65_536


@dataclass(frozen=True)
class Launched:
    """A worker that was started."""

    process: ForkServerProcess
    connection: Connection
    """Messages, both ways."""
    output: Connection
    """Its stdout and stderr."""


@dataclass(frozen=True)
class Launcher:
    """How workers are started: the function they run and the modules that are imported beforehand."""

    target: str = WORKER_TARGET
    preload: Sequence[str] = WORKER_PRELOAD

    def begin(self) -> None:
        """Start the forkserver; returns at once, its imports go on. The environment must be set before."""
        multiprocessing.get_context("forkserver").set_forkserver_preload(list(self.preload))
        with _heard_by(ChildLog(Origin("launcher"))):
            forkserver.ensure_running()

    async def launch(self, task_json: str, rank: int, stack_file: str) -> Launched:
        """Fork one worker; waits for the imports if they are not done. Raises FineTuneError.

        On SIGUSR1 the worker writes its Python stack into `stack_file`.
        """
        try:
            return await asyncio.to_thread(self._launch, task_json, rank, stack_file)
        except (OSError, EOFError) as error:
            raise FineTuneError(
                f"worker {rank} could not be started ({error!r}): the launcher ended; its last lines in the log say why"
            ) from error

    def _launch(self, task_json: str, rank: int, stack_file: str) -> Launched:
        context = multiprocessing.get_context("forkserver")
        ours, theirs = context.Pipe(duplex=True)
        reader, writer = context.Pipe(duplex=False)
        arguments = (self.target, task_json, theirs, writer)
        surroundings = {"agent": os.getpid(), "stack_file": stack_file}
        process = context.Process(target=enter, args=arguments, kwargs=surroundings, name=f"worker-{rank}")
        try:
            process.start()
        finally:
            theirs.close()
            writer.close()
        return Launched(process, ours, reader)


@contextmanager
def _heard_by(log: ChildLog) -> Iterator[None]:
    """What is started meanwhile has a pipe for its output, which a thread reads: imports print as they like."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    own = os.dup(1), os.dup(2)
    os.dup2(writer, 1)
    os.dup2(writer, 2)
    try:
        yield
    finally:
        os.dup2(own[0], 1)
        os.dup2(own[1], 2)
        for handle in (*own, writer):
            os.close(handle)
        threading.Thread(target=_follow, args=(reader, log), daemon=True, name="launcher-log").start()


def _follow(reader: int, log: ChildLog) -> None:
    while data := os.read(reader, READ_BYTES):
        log.feed(data)


def find_launcher_processes() -> frozenset[int]:
    """Process ids of the forkserver and its resource tracker, which multiprocessing itself waits for."""
    found = (
        getattr(forkserver._forkserver, "_forkserver_pid", None),
        getattr(resource_tracker._resource_tracker, "_pid", None),
    )
    return frozenset(pid for pid in found if pid is not None)


def prepare_environment(environment: MutableMapping[str, str], run: RunConfig, work_dir: Path) -> None:
    """Set what the libraries read at import. What the user set by pod.env stays."""
    resolved = run.resolved
    threads = max(1, count_usable_cpus(run.spec.resources.cpu) // resolved.workers_per_node)
    cache = work_dir / "cache"
    defaults = {
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HOME": str(cache / "huggingface"),
        "TORCH_EXTENSIONS_DIR": str(cache / "torch-extensions"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "MPLCONFIGDIR": str(cache / "matplotlib"),
        # A warning for every connection where no name server knows the pods' addresses backwards.
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        # Workers end without clean-up on purpose (their peers may be gone); the tracker need not tell about it.
        "PYTHONWARNINGS": "ignore:resource_tracker:UserWarning",
    }
    for name, value in defaults.items():
        environment.setdefault(name, value)
    environment["DS_ACCELERATOR"] = resolved.device
    # Without this, importing deepspeed touches CUDA and every forked worker is in a bad fork.
    environment["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    # A worker has no credentials and shall not try: everything it needs was fetched.
    environment["HF_HUB_OFFLINE"] = environment["TRANSFORMERS_OFFLINE"] = "1"
