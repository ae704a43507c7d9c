"""Tests that need an NVIDIA GPU: only `make gpu` runs them, and there they fail without one."""

from __future__ import annotations

import os

import pytest

from tests.gpu import make
from tests.trainer.conftest import chat_model, classifier

__all__ = ["chat_model", "classifier"]


@pytest.fixture(scope="session", autouse=True)
def _gpu() -> None:
    """DeepSpeed has one accelerator a process: the other tests have chosen the CPU where nobody chose."""
    if os.environ.get("DS_ACCELERATOR") != make.DEVICE:
        pytest.skip("needs an NVIDIA GPU: run by make gpu")
    import torch

    if make.DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.fail("these tests need an NVIDIA GPU, and torch sees none here")
