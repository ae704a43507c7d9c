"""Two agents with real workers: from rows to a published model, on a folder and on S3."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from finetune_contract import names
from finetune_contract.report import Report
from finetune_contract.run import RunConfig
from finetune_contract.spec import FineTuneJob
from finetune_operator.plan.resolve import build_run_config
from finetune_trainer.store.ledger import read_ledger
from finetune_trainer.store.store import Store
from finetune_trainer.store.transfer import download_folder
from tests.agent.make import AgentProcess, make_attempt
from tests.data import spam

pytestmark = pytest.mark.distributed

ROWS = 160
STORY = (
    "AgentStarted", "AttemptStarted", "Preparing", "DataPrepared", "WorkersStarting",
    "TrainingStarted", "Resumed", "Evaluated", "Step", "Evaluated", "CheckpointSaved", "AttemptStopped",
    "AttemptStarted", "WorkersStarting", "TrainingStarted", "Resumed", "Step", "Evaluated", "CheckpointSaved",
    "Exported", "Judged", "GateJudged", "Published", "Finished",
)  # fmt: skip
"""What node 0's pod tells, in this order; steps, evaluations and checkpoints come more often."""
FIELDS = {"time", "severity", "logger", "message", "namespace", "job", "attempt", "node", "rank"}


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Store, dict[str, str]]]:
    """Where everything lies, and the variables by which it is reached."""
    if request.param == "folder":
        yield Store.open(f"file://{tmp_path}/store", {}), {}
        return
    environment: dict[str, str] = request.getfixturevalue("object_store")
    make_bucket: Callable[[], str] = request.getfixturevalue("make_bucket")
    yield Store.open(f"s3://{make_bucket()}/{uuid.uuid4().hex}", environment), environment


def _make_run(store: Store, uid: str = "", **changes: Any) -> RunConfig:
    spec = {
        "task": "text-classification",
        "model": {"source": f"{store.uri}/minilm"},
        "data": {"train": {"source": f"{store.uri}/spam/train.jsonl"}},
        "training": {"epochs": 1, "batchSize": 16, "maxLength": 64, "learningRate": 1e-4},
        "evaluation": {"everySteps": 4, "gate": [{"metric": "accuracy", "min": 0.5}]},
        "output": {"destination": f"{store.uri}/models"},
        "resources": {"nodes": 2, "processesPerNode": 1},
    }
    job = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "spam", "namespace": "research", "uid": uid},
        "spec": spec | changes,
    }
    return build_run_config(FineTuneJob.from_data(job))


def _put_inputs(store: Store, minilm: Path) -> None:
    for path in minilm.rglob("*"):
        if path.is_file():
            store.upload(path.resolve(), f"minilm/{path.relative_to(minilm).as_posix()}")
    rows = list(spam.rows())
    some = rows[:: len(rows) // ROWS]
    store.put("spam/train.jsonl", "".join(json.dumps(row) + "\n" for row in some).encode())


def _check_story(first: AgentProcess, second: AgentProcess, resumed_from: int) -> None:
    """Rank 0's pod reads as the story of the run; the other one is silent about its ranks."""
    told = [line for line in first.lines if "event" in line]
    events = iter([line["event"] for line in told])
    assert all(event in events for event in STORY), [line["event"] for line in told]
    assert [line["step"] for line in told if line["event"] == "Resumed"] == [0, resumed_from]
    verified = [line["step"] for line in told if line["event"] == "CheckpointVerified"]
    assert resumed_from in verified
    steps = [line for line in told if line["event"] == "Step"]
    assert {(line["rank"], line["total_steps"]) for line in steps} == {(0, steps[0]["total_steps"])}
    assert [line["step"] for line in steps] == list(range(1, steps[0]["total_steps"] + 1))
    assert all(set(line) >= FIELDS and line["job"] == "spam" for line in (*first.lines, *second.lines))
    assert [line for line in second.lines if line["rank"] is not None and line["severity"] == "info"] == []


def _check_metrics(metrics: Mapping[str, float]) -> None:
    """What only real workers can tell."""
    labels = 'job="spam",namespace="research",node="0"'
    found = {name.replace(labels, ""): value for name, value in metrics.items()}
    assert 0.0 < found["finetune_goodput_ratio{}"] < 1.0
    assert found["finetune_gradient_norm{}"] > 0.0
    assert found["finetune_total_steps{}"] == found["finetune_step{}"] > 0
    assert found["finetune_checkpoint_timestamp_seconds{}"] > 1.7e9
    peaks = {name: value for name, value in metrics.items() if name.startswith("finetune_rank_memory_bytes")}
    assert len(peaks) == 2
    assert min(peaks.values()) > 100e6
    phases = {name: value for name, value in metrics.items() if name.startswith("finetune_phase_seconds_total")}
    assert {name.partition('phase="')[2].partition('"')[0] for name in phases} >= {"Preparing", "Starting", "Training"}


def test_two_nodes_train_stop_resume_and_publish(
    store: tuple[Store, dict[str, str]], minilm: Path, tmp_path: Path
) -> None:
    root, environment = store
    _put_inputs(root, minilm)
    run = _make_run(root, uid=str(uuid.uuid4()))
    job = Store.open(run.job_uri, environment)
    module = "finetune_trainer.agent"
    with (
        AgentProcess(tmp_path / "node-0", run, module=module, environment=environment) as first,
        AgentProcess(tmp_path / "node-1", run, node=1, module=module, environment=environment) as second,
    ):
        agents = (first, second)
        begin = make_attempt(1, nodes=2)
        for agent in agents:
            agent.annotate(begin)
        first.wait_for_step(5)
        second.stop()
        stopped = [agent.wait_for_news() for agent in agents]
        assert [progress.phase for progress in stopped] == ["Stopped", "Stopped"], stopped
        trusted = {record.uri.rpartition("/")[2]: record.digest for record in read_ledger(job).checkpoints}
        attempt = make_attempt(2, nodes=2, checkpoints=trusted)
        for agent in agents:
            agent.annotate(attempt)
        ended = [agent.wait_for_news(attempt=2) for agent in agents]
        assert [progress.phase for progress in ended] == ["Finished", "Finished"], first.log[-3000:]
        assert ended[0].resumed_from == stopped[0].step.step
        assert ended[0].step.training_seconds > 0.0
        _check_metrics(first.metrics())
        assert (first.finish(), second.finish()) == (0, 0)
        _check_story(first, second, resumed_from=stopped[0].step.step)
    outcome = ended[0].outcome
    assert outcome is not None
    assert outcome == ended[1].outcome
    assert (outcome.succeeded, outcome.reason, outcome.attempt) == (True, "Published", 2)
    report = job.get_document(names.FILE_REPORT_JSON, Report)
    assert report is not None
    assert outcome.evaluation is not None
    assert report.metrics["test"] == outcome.evaluation.test
    download_folder(job, tmp_path / "published", names.PUBLISHED_FOLDER)
    assert {"config.json", "model.safetensors", "README.md", "finetune-manifest.json"} <= set(
        os.listdir(tmp_path / "published")
    )
