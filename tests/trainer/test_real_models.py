"""Small real models learn from real rows, from the user's file to the judged export."""

from __future__ import annotations

import io
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from finetune_contract.run import RunConfig
from finetune_trainer.data.prepare import prepare
from finetune_trainer.data.speech import Speech
from finetune_trainer.results import FinalEvaluation
from tests.data import chat, spam
from tests.data.rows import write_jsonl
from tests.trainer.make import make_run, make_tasks
from tests.trainer.pool import run_attempt

pytestmark = pytest.mark.distributed


def run_whole(run: RunConfig, model: Path, work_dir: Path) -> FinalEvaluation:
    pointer = prepare(run, work_dir / "prepare", Speech(io.StringIO()))
    data = Path(pointer.uri.removeprefix("file://"))
    attempt = run_attempt(make_tasks(run, model, data, work_dir))
    assert attempt.exit_codes == [0] * run.resolved.world_size
    return attempt.evaluation


def make_real_run(
    task: str, model: Path, rows: Path, work_dir: Path, spec: dict[str, Any], **resolved: Any
) -> RunConfig:
    everything = {
        "model": {"source": f"file://{model}"},
        "data": {"train": {"source": f"file://{rows}"}},
        "output": {"destination": f"file://{work_dir}/out"},
        **spec,
    }
    return make_run(task, everything, **resolved)


def test_minilm_learns_to_tell_spam_from_ham(minilm: Path, tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "spam.jsonl", islice(spam.rows(), 0, None, 12))
    spec = {"training": {"maxLength": 32}}
    resolved = {"batch_size": 16, "micro_batch_size": 16, "evaluation_batch_size": 16, "learning_rate": 3e-4}
    run = make_real_run("text-classification", minilm, rows, tmp_path, spec, epochs=1.0, **resolved)
    final = run_whole(run, minilm, tmp_path)
    assert final.evaluation.test["accuracy"] > 0.85
    assert final.evaluation.test["loss"] < final.evaluation.baseline["loss"]


def test_smollm_learns_to_answer_with_lora_on_two_ranks(smollm_cut: Path, tmp_path: Path) -> None:
    short = (row for row in chat.rows() if len(str(row["messages"])) < 500)
    rows = write_jsonl(tmp_path / "chat.jsonl", islice(short, 80))
    spec = {"training": {"maxLength": 192}, "strategy": {"method": "lora"}}
    resolved = {"world_size": 2, "workers_per_node": 2, "micro_batch_size": 4, "zero_stage": 2}
    columns = {"messages": "messages"}
    run = make_real_run(
        "text-generation",
        smollm_cut,
        rows,
        tmp_path,
        spec,
        columns=columns,
        max_steps=8,
        learning_rate=2e-3,
        **resolved,
    )
    final = run_whole(run, smollm_cut, tmp_path)
    assert final.evaluation.test["perplexity"] < 0.7 * final.evaluation.baseline["perplexity"]
