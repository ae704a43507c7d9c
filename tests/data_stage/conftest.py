"""Folders that the data stage's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainer.make import make_model_folder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny BERT and its tokenizer."""
    return make_model_folder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny Llama with a chat template."""
    return make_model_folder(tmp_path_factory.mktemp("decoder"), "text-generation")
