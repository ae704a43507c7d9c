"""Tests that need an NVIDIA GPU: only `make gpu` runs them, and there they fail without one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.gpu import make
from tests.trainer.conftest import Folders
from tests.trainer.make import make_model_folder, make_prepared


@pytest.fixture(scope="session", autouse=True)
def _gpu() -> None:
    """DeepSpeed has one accelerator a process: the other tests have chosen the CPU where nobody chose."""
    if os.environ.get("DS_ACCELERATOR") != make.DEVICE:
        pytest.skip("needs an NVIDIA GPU: run by make gpu")
    import torch

    if make.DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.fail("these tests need an NVIDIA GPU, and torch sees none here")


def _make_folders(root: Path, task: str, dropout: float) -> Folders:
    model = make_model_folder(root / "model", task, dropout)
    return Folders(model, make_prepared(root / "data", model, task))


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Return a tiny BERT with dropout."""
    return _make_folders(tmp_path_factory.mktemp("classifier"), "text-classification", dropout=0.1)


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Return a tiny Llama with a chat template and dropout."""
    return _make_folders(tmp_path_factory.mktemp("chat"), "text-generation", dropout=0.1)
