"""The RunConfig: where the job's folder lies, and that nothing is lost between operator and trainer."""

from __future__ import annotations

import pytest

from finetune_contract.run import JobIdentity, RunConfig
from finetune_contract.spec.resources import ResourcesSpec
from tests.contract.good_jobs import COMPLETE, GOOD_JOBS
from tests.contract.make import Data, make_data, make_job, make_status


def make_run(spec: Data | None = None, uid: str = "0123456789") -> RunConfig:
    resolved = make_status().resolved
    assert resolved is not None
    return RunConfig(job=JobIdentity(namespace="a", name="spam", uid=uid), spec=make_job(spec).spec, resolved=resolved)


def test_the_jobs_folder_lies_below_the_destination() -> None:
    run = make_run({"output": {"destination": "s3://ml/models/"}})
    assert run.job_uri == "s3://ml/models/spam-01234567"
    assert make_run(uid="").job_uri == "s3://ml/models/spam"


@pytest.mark.parametrize("spec", [job["spec"] for job in (*GOOD_JOBS.values(), make_data(COMPLETE))])
def test_a_run_config_survives_its_own_json(spec: Data) -> None:
    run = make_run(spec)
    assert RunConfig.from_json(run.to_json()) == run


def test_columns_keep_the_files_names() -> None:
    columns = make_run({"data": {"columns": {"text": "body"}}}).spec.data.columns
    assert (columns.file_column("text"), columns.file_column("label")) == ("body", "label")


@pytest.mark.parametrize(
    ("resources", "workers"),
    [(ResourcesSpec(), 1), (ResourcesSpec(gpus_per_node=8), 8), (ResourcesSpec(processes_per_node=2), 2)],
)
def test_a_node_has_a_worker_for_each_gpu_or_process(resources: ResourcesSpec, workers: int) -> None:
    assert resources.workers_per_node == workers
