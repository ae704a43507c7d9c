"""Waiting for a condition: the only way in which tests wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def wait_for(look: Callable[[], Found | None], what: str, *, seconds: float, interval: float = 0.2) -> Found:
    """Look until something (truthy) is there, and return it.

    Raises:
        AssertionError: naming what was awaited, after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        if found := look():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(interval)
