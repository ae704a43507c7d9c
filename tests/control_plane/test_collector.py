"""The collector of cycles rests while the caches fill, and no longer."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from finetune_operator import __main__ as process


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """Stop the collector, as the process does at its start."""
    gc.disable()
    yield
    gc.enable()


async def test_collector_works_once_the_caches_are_filled() -> None:
    manager: Any = SimpleNamespace(served=asyncio.Event())
    starting = asyncio.create_task(process._start_collector(manager))
    await asyncio.sleep(0)
    assert not gc.isenabled()
    manager.served.set()
    await starting
    assert gc.isenabled()


async def test_collector_works_although_the_caches_are_never_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "FILLING_SECONDS", 0.01)
    manager: Any = SimpleNamespace(served=asyncio.Event())
    await process._start_collector(manager)
    assert gc.isenabled()
