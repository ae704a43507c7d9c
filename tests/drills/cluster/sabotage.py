"""Breaks the process that it runs in, on demand: mounted into the drills' pods as Python's own sitecustomize.

On SIGUSR2 the process reads one line from /tmp/sabotage and obeys. Nothing of the product knows about it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ORDER = Path("/tmp/sabotage")


def _raise(_: str) -> None:
    raise RuntimeError("sabotage: an exception of the user's own code")


def _run_out_of_device_memory(_: str) -> None:
    import torch

    raise torch.OutOfMemoryError("sabotage: the device's memory is used up")


def _eat_memory(_: str) -> None:
    eaten = []
    while True:
        eaten.append(b"x" * 2**26)


def _spoil_one_forward(_: str) -> None:
    """The next output of any layer is not a number, once."""
    from torch import Tensor
    from torch.nn.modules.module import register_module_forward_hook

    def spoil(_module: Any, _inputs: Any, output: Any) -> Any:
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return None
        handle.remove()
        return output * float("nan")

    handle = register_module_forward_hook(spoil)


def _slow_down(seconds: str) -> None:
    """Every update of the parameters takes so much longer, by computing and not by waiting for others."""
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    def burn(*_: Any) -> None:
        end = time.monotonic() + float(seconds)
        while time.monotonic() < end:
            pass

    register_optimizer_step_pre_hook(burn)


def _sleep(seconds: str) -> None:
    """A hang that Python can see: the stack names this line."""
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        time.sleep(1)


def _exit(code: str) -> None:
    os._exit(int(code))


ORDERS: dict[str, Callable[[str], None]] = {
    "exit": _exit,
    "raise": _raise,
    "device-memory": _run_out_of_device_memory,
    "memory": _eat_memory,
    "nan": _spoil_one_forward,
    "slow": _slow_down,
    "sleep": _sleep,
}


def obey(*_: object) -> None:
    """Do what the file says."""
    order, _space, argument = ORDER.read_text(encoding="utf-8").strip().partition(" ")
    ORDERS[order](argument)


if __name__ == "sitecustomize":
    signal.signal(signal.SIGUSR2, obey)
