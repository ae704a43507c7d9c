"""What a rank's own work takes, without waiting for others: so that the one that holds up all the others is found.

Counted are waiting for its rows and the forward passes. Not counted are the backward pass and the update, in which
ranks wait for one another. Under ZeRO 3 the forward pass gathers weights from the other ranks, so that their delays
show in everybody's figure, and only the difference between ranks says something.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class OwnTime:
    """Adds up until it is taken. On a GPU two events a forward pass are recorded, and read when they are long past."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._events: list[tuple[torch.Event, torch.Event]] = []

    def add(self, seconds: float) -> None:
        """Time of the host that was measured elsewhere."""
        self._seconds += seconds

    @contextmanager
    def measure(self, device: torch.device) -> Iterator[None]:
        """Measure a forward pass on the device that it is computed on."""
        if device.type == "cuda":
            began, ended = (torch.Event(device, enable_timing=True) for _ in range(2))
            began.record()
            yield
            ended.record()
            self._events.append((began, ended))
        else:
            since = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - since

    def take(self, steps: int) -> float:
        """Seconds a step since the last call. To be called where the host has waited for the device anyway."""
        milliseconds: float = sum(began.elapsed_time(ended) for began, ended in self._events)
        seconds = (self._seconds + milliseconds / 1e3) / max(1, steps)
        self._seconds = 0.0
        self._events.clear()
        return seconds
