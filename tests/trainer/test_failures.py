"""What ends a worker by the user's mistake or by numbers, in words and exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune_contract.exits import FailureClass, WorkerExit
from finetune_trainer.messages import Failed
from tests.trainer.conftest import Folders
from tests.trainer.make import make_run, make_tasks
from tests.trainer.pool import run_attempt
from tests.trainer.sabotage import NoMemory

pytestmark = pytest.mark.distributed


def fail(folders: Folders, work_dir: Path, spec: dict[str, Any] | None = None, **resolved: Any) -> tuple[int, str]:
    run = make_run(spec=spec, **resolved)
    attempt = run_attempt(make_tasks(run, folders.model, folders.data, work_dir))
    (failed,) = attempt.heard(Failed)
    (code,) = attempt.exit_codes
    assert code == failed.failure.exit_code
    return code or 0, failed.failure.message


def test_an_evaluation_without_memory_is_named_with_its_batch(plain_classifier: Folders, tmp_path: Path) -> None:
    run = make_run(max_steps=1)
    tasks = make_tasks(run, plain_classifier.model, plain_classifier.data, tmp_path)
    (failed,) = run_attempt(tasks, sabotage=NoMemory("evaluating")).heard(Failed)
    failure = failed.failure
    assert (failure.failure_class, failure.exit_code) == (FailureClass.OUT_OF_MEMORY, WorkerExit.OUT_OF_MEMORY)
    assert failure.message.startswith("memory did not suffice to evaluate 4 rows at a time: lower evaluation.batchSize")
    assert "CUDA out of memory" in failure.message


def test_an_unknown_metric_is_refused_with_those_that_there_are(plain_classifier: Folders, tmp_path: Path) -> None:
    spec = {"evaluation": {"gate": [{"metric": "bleu", "min": 0.5}]}}
    code, message = fail(plain_classifier, tmp_path, spec)
    assert code == WorkerExit.USER_ERROR
    assert message.startswith("evaluation.gate[0].metric: task text-classification has no metric 'bleu'; use one of")


def test_unknown_lora_targets_are_refused_with_those_that_there_are(plain_classifier: Folders, tmp_path: Path) -> None:
    spec = {"strategy": {"method": "lora", "lora": {"targets": ["q_proj"]}}}
    code, message = fail(plain_classifier, tmp_path, spec)
    assert code == WorkerExit.USER_ERROR
    assert "no linear layer 'q_proj'" in message
    assert "query" in message


def test_a_folder_that_is_no_model_is_a_users_error(plain_classifier: Folders, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    folders = Folders(tmp_path / "empty", plain_classifier.data)
    code, message = fail(folders, tmp_path / "work")
    assert code == WorkerExit.USER_ERROR
    assert message.startswith("model.source: ")
