from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from finetune_cli.render import dump_yaml
from finetune_cli.yaml_reader import read_documents
from finetune_contract.run import RunConfig
from tests.cli.make import call, write_job
from tests.cli.test_yaml_scalars import TABLE

CLUSTER_JOB: dict[str, Any] = {
    "model": {"source": "s3://ml/model"},
    "data": {"train": {"source": "s3://ml/train.jsonl"}},
    "output": {"destination": "s3://ml/out"},
    "resources": {"nodes": 2, "gpusPerNode": 1},
}


def test_yaml_and_json_hold_the_objects_that_the_operator_makes(tmp_path: Path) -> None:
    file = write_job(tmp_path, CLUSTER_JOB)
    items = json.loads(call("render", file, "--output", "json").stdout)["items"]
    documents = [document.value for document in read_documents(call("render", file).stdout)]
    assert documents == items
    assert [item["kind"] for item in items] == ["ConfigMap", "Pod", "Pod", "Pod"]
    roles = [item["metadata"]["labels"]["finetune.dev/role"] for item in items[1:]]
    assert roles == ["prepare", "trainer", "trainer"]
    run = RunConfig.from_json(items[0]["data"]["run.json"])
    assert run.resolved.world_size == 2


def test_no_prepare_pod_without_gpus(tmp_path: Path) -> None:
    file = write_job(tmp_path, {**CLUSTER_JOB, "resources": {"nodes": 1}})
    items = json.loads(call("render", file, "--output", "json").stdout)["items"]
    assert [item["kind"] for item in items] == ["ConfigMap", "Pod"]


@pytest.mark.parametrize("text", [*TABLE, ".inf", "a\nb\n", "a: b", "- a", "#a", " a", "", "@a", "é"])
def test_texts_stay_texts_for_kubectl(text: str) -> None:
    (document,) = read_documents(dump_yaml([{"value": text}]))
    assert document.value == {"value": text}


def test_the_api_server_accepts_what_is_rendered(tmp_path: Path, control_plane: Path) -> None:
    rendered = call("render", write_job(tmp_path, CLUSTER_JOB)).stdout
    command = ["kubectl", f"--kubeconfig={control_plane}", "create", "--dry-run=server", "-o", "name", "-f", "-"]
    done = subprocess.run(command, input=rendered, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 4


def test_an_invalid_job_is_not_rendered(tmp_path: Path) -> None:
    result = call("render", write_job(tmp_path, {"training": {"epochs": 0}}))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "spec.training.epochs is 0" in result.stderr
