"""Joining the other workers: process groups, device, threads; and the few collectives on host values.

The backend is NCCL on GPUs and gloo on CPUs. `control` is a gloo group in both cases: figures and flags of the host
never wait for the device. The store's prefix holds job and attempt, so that a worker of the past cannot join.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import deepspeed
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, TCPStore

from finetune_trainer.messages import WorkerTask

RENDEZVOUS_SECONDS = 600
Value = TypeVar("Value")


@dataclass(frozen=True)
class Ranks:
    """One worker among the others."""

    rank: int
    world_size: int
    local_rank: int
    device: torch.device
    control: Any
    """Process group of all ranks on gloo."""

    @property
    def is_first(self) -> bool:
        """Rank 0 speaks and writes for all."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sums over all ranks."""
        total = torch.tensor(list(values), dtype=torch.float64)
        dist.all_reduce(total, group=self.control)
        summed: list[float] = total.tolist()
        return summed

    def gather(self, value: Value) -> list[Value]:
        """Every rank's value, in the order of ranks."""
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def broadcast(self, value: Value) -> Value:
        """Rank 0's value."""
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.control)
        return values[0]

    def barrier(self) -> None:
        """Wait for all ranks."""
        dist.barrier(group=self.control)


def join(task: WorkerTask) -> Ranks:
    """Set this process's environment and threads, and meet the other ranks.

    NCCL was run with one rank on an H100; several GPUs have not been tried.
    """
    _set_environment(task)
    device = _choose_device(task)
    # Nothing of DeepSpeed's is compiled: gloo and NCCL do without its kernels. Asked which of them could be, it would
    # run compilers, and warn seven times in every worker beside a GPU where there are none.
    deepspeed.ops.__compatible_ops__ = {}
    rendezvous = TCPStore(
        task.master.host,
        task.master.port,
        task.world_size,
        is_master=task.rank == 0,
        timeout=timedelta(seconds=RENDEZVOUS_SECONDS),
    )
    identity = task.run.job
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=PrefixStore(f"{identity.namespace}/{identity.name}/{identity.uid}/{task.attempt}", rendezvous),
        rank=task.rank,
        world_size=task.world_size,
        device_id=device if device.type == "cuda" else None,
    )
    deepspeed.init_distributed(dist_backend="nccl" if device.type == "cuda" else "gloo", verbose=False)
    control = dist.new_group(backend="gloo")
    return Ranks(rank=task.rank, world_size=task.world_size, local_rank=task.local_rank, device=device, control=control)


def leave() -> None:
    """End the process groups."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _set_environment(task: WorkerTask) -> None:
    os.environ.update(
        RANK=str(task.rank),
        LOCAL_RANK=str(task.local_rank),
        WORLD_SIZE=str(task.world_size),
        LOCAL_WORLD_SIZE=str(task.local_world_size),
        MASTER_ADDR=task.master.host,
        MASTER_PORT=str(task.master.port),
    )


def _choose_device(task: WorkerTask) -> torch.device:
    if task.run.resolved.device == "cuda":
        device = torch.device("cuda", task.local_rank)
        torch.cuda.set_device(device)
        return device
    # How many threads a worker has stands in OMP_NUM_THREADS: the agent knows the pod, a worker does not.
    return torch.device("cpu")
