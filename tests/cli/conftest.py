"""Consoles are made once a process, on the stdout and stderr of that moment; a test has streams of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_cli import output
from finetune_cli.run_folder import RunFolder


@pytest.fixture(autouse=True)
def _fresh_consoles() -> Iterator[None]:
    output.talk.cache_clear()
    output.data.cache_clear()
    yield
    output.talk.cache_clear()
    output.data.cache_clear()


@pytest.fixture
def run_folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "runs" / "job")
