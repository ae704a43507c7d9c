from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune_cli.errors import InvalidError
from finetune_cli.local_job import Machine, localize, parse_claims
from tests.cli.make import make_job, make_spec


def make_machine(**fields: Any) -> Machine:
    defaults = {"processes": 2, "gpus": 0, "claims": {}, "here": Path("/home/me/project")}
    return Machine(**{**defaults, **fields})


def test_a_cluster_job_becomes_one_node_with_local_processes_and_absolute_folders() -> None:
    job = make_job(
        {
            "data": {"train": {"source": "pvc://rows/spam/train.jsonl"}, "test": {"source": "s3://ml/test.jsonl"}},
            "resources": {"nodes": 4, "gpusPerNode": 8, "memory": "64Gi"},
        }
    )
    local = localize(job, make_machine(claims={"rows": Path("/mnt/rows")}))
    assert local == make_job(
        {
            "model": {"source": "file:///home/me/project/model"},
            "data": {
                "train": {"source": "file:///mnt/rows/spam/train.jsonl"},
                "test": {"source": "s3://ml/test.jsonl"},
                "prepare": "inline",
            },
            "output": {"destination": "file:///home/me/project/out"},
            "resources": {"nodes": 1, "processesPerNode": 2},
        }
    )


def test_a_machine_with_gpus_runs_one_process_a_gpu() -> None:
    local = localize(make_job(), make_machine(gpus=2))
    assert local.spec.resources.to_data() == make_job({"resources": {"gpusPerNode": 2}}).spec.resources.to_data()


def test_the_cluster_uid_is_dropped_since_a_local_run_has_none() -> None:
    job = make_job()
    job = job.model_copy(update={"metadata": job.metadata.model_copy(update={"uid": "abc"})})
    assert localize(job, make_machine()).metadata.uid == ""


@pytest.mark.parametrize(
    ("change", "machine", "words"),
    [
        (
            {"output": {"destination": "pvc://models/x"}},
            {},
            "spec.output.destination: pvc://models/x lies in",
        ),
        ({"model": {"source": "file://models/x"}}, {}, "spec.model.source: file://models/x names a host"),
        ({}, {"gpus": 1}, "--processes 2: this machine has 1 GPU,"),
        (
            {"training": {"precision": "fp16"}, "resources": {"gpusPerNode": 1}},
            {},
            "spec.training.precision: fp16 needs a GPU",
        ),
    ],
)
def test_what_this_machine_cannot_do_is_said(change: dict[str, Any], machine: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidError) as caught:
        localize(make_job(change), make_machine(**machine))
    assert str(caught.value).startswith(words)
    assert caught.value.remedy


def test_claims_are_folders_that_exist(tmp_path: Path) -> None:
    assert parse_claims([f"rows={tmp_path}"]) == {"rows": tmp_path}
    for option in ("rows", "=x", "rows=", f"rows={tmp_path}/absent"):
        with pytest.raises(InvalidError, match="--map"):
            parse_claims([option])


def test_the_job_itself_is_not_touched() -> None:
    job = make_job()
    localize(job, make_machine())
    assert job.spec.to_data() == make_job(make_spec()).spec.to_data()
