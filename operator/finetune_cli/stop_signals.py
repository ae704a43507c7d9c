"""Signals as a wish to stop: the first asks for a checkpoint, a second one for an end at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class StopSignals:
    """How often somebody asked."""

    count: int = 0

    @property
    def wanted(self) -> bool:
        """Stop with a checkpoint."""
        return self.count > 0

    @property
    def insisted(self) -> bool:
        """End at once."""
        return self.count > 1


@contextmanager
def hear_signals() -> Iterator[StopSignals]:
    """Count SIGINT, SIGTERM and SIGHUP instead of dying of them."""
    signals = StopSignals()

    def count(number: int, frame: Any) -> None:
        signals.count += 1

    former = {number: signal.signal(number, count) for number in _SIGNALS}
    try:
        yield signals
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
