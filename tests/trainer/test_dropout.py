"""Dropout is on in training and only there. With dropout silently off every identity test would still pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.trainer.conftest import Folders
from tests.trainer.make import losses_of, make_model_folder, make_prepared, make_run, make_tasks
from tests.trainer.pool import run_attempt

pytestmark = pytest.mark.distributed


def train(folders: Folders, work_dir: Path, spec: dict[str, Any] | None = None, **resolved: Any) -> list[float]:
    run = make_run(spec=spec, epochs=1.0, **resolved)
    attempt = run_attempt(make_tasks(run, folders.model, folders.data, work_dir))
    assert attempt.exit_codes == [0]
    return losses_of(attempt.evaluation.curves)


def test_dropout_changes_the_loss_of_the_first_step(
    classifier: Folders, plain_classifier: Folders, tmp_path: Path
) -> None:
    with_dropout, without = train(classifier, tmp_path / "a"), train(plain_classifier, tmp_path / "b")
    assert abs(with_dropout[0] - without[0]) > 1e-4


def test_dropout_of_an_adapted_model_is_on_without_any_evaluation_before(tmp_path: Path) -> None:
    spec = {"strategy": {"method": "lora", "lora": {"dropout": 0.0}}}
    losses = []
    for dropout in (0.1, 0.0):
        model = make_model_folder(tmp_path / f"model-{dropout}", dropout=dropout)
        folders = Folders(model, make_prepared(tmp_path / f"data-{dropout}", model, sizes={"train": 16}))
        losses.append(train(folders, tmp_path / f"work-{dropout}", spec))
    assert abs(losses[0][0] - losses[1][0]) > 1e-4


def test_evaluation_uses_nothing_random_up_and_leaves_dropout_on(classifier: Folders, tmp_path: Path) -> None:
    often = train(classifier, tmp_path / "often", evaluate_every_steps=1, evaluate_every_epochs=None)
    assert often == train(classifier, tmp_path / "once", evaluate_every_epochs=1.0)
