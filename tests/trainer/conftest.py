"""What several modules of the trainer's tests share: folders of tiny models and their data, made once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.trainer.make import make_model_folder, make_prepared


@dataclass(frozen=True)
class Folders:
    model: Path
    data: Path


def _make_folders(root: Path, task: str, dropout: float) -> Folders:
    model = make_model_folder(root / "model", task, dropout)
    return Folders(model, make_prepared(root / "data", model, task))


@pytest.fixture(scope="session")
def plain_classifier(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Return a tiny BERT without dropout."""
    return _make_folders(tmp_path_factory.mktemp("plain"), "text-classification", dropout=0.0)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Return a tiny BERT with dropout."""
    return _make_folders(tmp_path_factory.mktemp("dropout"), "text-classification", dropout=0.1)


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Return a tiny Llama with a chat template and dropout."""
    return _make_folders(tmp_path_factory.mktemp("chat"), "text-generation", dropout=0.1)
