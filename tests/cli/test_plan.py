from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from finetune_cli.batch import Batch
from finetune_cli.plan import make_plan
from finetune_cli.rows import count_rows
from tests.cli.make import call, make_job, write_job, write_model_files
from tests.cli.test_model_facts import BERT, TENSORS


def write_rows(file: Path, count: int) -> None:
    file.write_text(
        "".join(json.dumps({"text": f"row {index}", "label": "ab"[index % 2]}) + "\n" for index in range(count))
    )


def read_plan(folder: Path, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(folder)
    result = call("plan", write_job(folder, change), "--output", "json")
    assert result.exit_code == 0, result.stderr
    plan: dict[str, Any] = json.loads(result.stdout)
    return plan


def test_every_default_is_shown_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = read_plan(tmp_path, {}, monkeypatch)["resolved"]
    assert resolved["epochs"] == {
        "value": 3.0,
        "reason": "default: neither training.epochs nor training.maxSteps is set",
    }
    assert all(each["reason"] for each in resolved.values())


def test_steps_and_evaluations_are_those_of_the_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "train.jsonl", 1000)
    change = {"training": {"epochs": 2, "batchSize": 32}, "evaluation": {"everySteps": 20}}
    assert read_plan(tmp_path, change, monkeypatch)["steps"] == {"trainingRows": 800, "total": 50, "evaluations": 3}


@pytest.mark.parametrize(
    ("evaluation", "expected"),
    [
        ({"everySteps": 10}, 5),
        ({"everySteps": 100}, 1),
        ({"everyEpochs": 0.5}, 4),
        ({"everyEpochs": 0.001}, 50),
        ({}, 2),
    ],
)
def test_evaluations_are_counted_as_the_schedule_makes_them(
    tmp_path: Path, evaluation: dict[str, Any], expected: int
) -> None:
    write_rows(tmp_path / "train.jsonl", 1000)
    plan = make_plan(make_job({"training": {"epochs": 2}, "evaluation": evaluation}), {}, tmp_path)
    assert plan.schedule is not None
    made = sum(plan.schedule.evaluates_at(step) for step in range(1, plan.schedule.total_steps + 1))
    assert (plan.to_data()["steps"]["evaluations"], made) == (expected, expected)


def test_memory_is_that_of_the_model_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model_files(tmp_path / "model", BERT, TENSORS)
    memory = read_plan(tmp_path, {"training": {"maxLength": 16, "batchSize": 4}}, monkeypatch)["memory"]
    assert (memory["parameters"], memory["trainedParameters"]) == (1144, 1144)
    assert {part["name"]: part["bytes"] for part in memory["parts"]} == {
        "weights": 4 * 1144,
        "gradients": 4 * 1144,
        "optimizer": 8 * 1144,
        "activations": 66 * 4 * 16 * 8 * 2,
    }
    assert memory["deviceBytes"] == sum(part["bytes"] for part in memory["parts"])


def test_a_pod_without_room_for_two_checkpoints_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model_files(tmp_path / "model", BERT, TENSORS)
    plan = read_plan(tmp_path, {"pod": {"sharedMemory": "64Mi"}}, monkeypatch)
    assert plan["memory"]["snapshotBytes"] == (8 + 4 + 4) * 1144
    assert [sentence.partition(" do not fit")[0] for sentence in plan["warnings"]] == ["two checkpoints of 17.9 KiB"]
    text = call("plan", tmp_path / "job.yaml").stdout
    assert "Checkpoints: 17.9 KiB on a node; two of them, 35.8 KiB, wait in shared memory (64.0 MiB)" in text
    assert "Warning: two checkpoints of 17.9 KiB" in text


def test_the_longest_row_is_what_model_and_tokenizer_allow(tmp_path: Path) -> None:
    folder = write_model_files(tmp_path / "model", {**BERT, "max_position_embeddings": 4096}, TENSORS)
    assert make_plan(make_job(), {}, tmp_path).tokens == 2048
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 24}))
    assert make_plan(make_job(), {}, tmp_path).tokens == 24
    assert make_plan(make_job({"training": {"maxLength": 16}}), {}, tmp_path).tokens == 16


def test_lora_trains_adapters_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model_files(tmp_path / "model", BERT, TENSORS)
    memory = read_plan(tmp_path, {"strategy": {"method": "lora", "lora": {"rank": 4}}}, monkeypatch)["memory"]
    assert (memory["parameters"], memory["trainedParameters"]) == (1144, 224)


def test_what_cannot_be_known_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change = {"model": {"source": "hf://owner/name"}, "data": {"train": {"source": "s3://ml/x.jsonl"}}}
    plan = read_plan(tmp_path, change, monkeypatch)
    assert (plan["memory"], plan["steps"]) == (None, None)
    assert [sentence.partition(":")[0] for sentence in plan["unknown"]] == ["memory", "steps"]


def test_people_read_the_same_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_model_files(tmp_path / "model", BERT, TENSORS)
    write_rows(tmp_path / "train.jsonl", 100)
    change = {"training": {"batchSize": 10, "microBatchSize": 2}, "resources": {"processesPerNode": 3}}
    text = call("plan", write_job(tmp_path, change)).stdout
    assert "10 rows a step in processes 3 x micro-batch 2 x accumulation 2 = 12 places; 2 of them stay empty" in text
    assert "Steps: 24 for 80 training rows before cleaning" in text
    assert "1,144 parameters x 4" in text
    assert "arXiv 1910.02054" in text
    assert "arXiv 2205.05198" in text


@pytest.mark.parametrize(
    ("batch", "empty"), [(Batch(32, 1, 16, 2), 0), (Batch(32, 3, 11, 1), 1), (Batch(7, 2, 4, 1), 1)]
)
def test_empty_places_are_what_the_product_has_beyond_the_rows(batch: Batch, empty: int) -> None:
    assert batch.empty == empty


def test_rows_are_counted_in_files_and_folders(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", 3)
    (tmp_path / "b.csv").write_text('text,label\n"two\nlines",a\nother,b\n')
    with gzip.open(tmp_path / "c.jsonl.gz", "wt") as stream:
        stream.write('{"a": 1}\n\n{"a": 2}\n')
    assert count_rows(tmp_path / "a.jsonl", None) == 3
    assert count_rows(tmp_path / "b.csv", None) == 2
    assert count_rows(tmp_path / "c.jsonl.gz", None) == 2
    assert count_rows(tmp_path, None) == 7
    (tmp_path / "d.txt").write_text("?")
    assert count_rows(tmp_path, None) is None


def test_rows_of_parquet_come_from_its_footer(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    parquet.write_table(pyarrow.table({"text": ["a", "b", "c"]}), tmp_path / "a.parquet")
    assert count_rows(tmp_path / "a.parquet", None) == 3
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    assert count_rows(tmp_path / "b.parquet", None) is None
