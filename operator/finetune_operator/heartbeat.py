"""How late the event loop is: a task that wants to run every second, and notes by how much it missed.

Must not judge what is too late.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

INTERVAL_SECONDS: Final = 1.0
REMEMBERED: Final = 60


class Heartbeat:
    """Beats while the event loop runs."""

    def __init__(self) -> None:
        self._due = time.monotonic()
        self._lags: deque[float] = deque([0.0], maxlen=REMEMBERED)

    @property
    def overdue_seconds(self) -> float:
        """How long a beat has been due by now."""
        return max(0.0, time.monotonic() - self._due)

    @property
    def worst_seconds(self) -> float:
        """How late the event loop was at worst in the last minute."""
        return max(self.overdue_seconds, *self._lags)

    async def run(self) -> None:
        """Beat for ever."""
        while True:
            self._due = time.monotonic() + INTERVAL_SECONDS
            await asyncio.sleep(INTERVAL_SECONDS)
            self._lags.append(self.overdue_seconds)
