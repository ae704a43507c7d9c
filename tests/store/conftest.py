"""Every test of the store runs on a folder and on a real S3 server."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_trainer.store.store import Store


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store."""
    if request.param == "folder":
        return Store.open(f"file://{tmp_path}/job", {})
    environment: dict[str, str] = request.getfixturevalue("object_store")
    make_bucket: Callable[[], str] = request.getfixturevalue("make_bucket")
    return Store.open(f"s3://{make_bucket()}/{uuid.uuid4().hex}/job", environment)


@pytest.fixture
def rival(store: Store) -> Store:
    """The same store, as another process sees it."""
    return store.below("")
