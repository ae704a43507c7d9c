"""A user's main line: apply, watch, wait, and find an evaluated model in object storage."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.endtoend.ground import Ground
from tests.endtoend.kubectl import Watch
from tests.endtoend.make import BUCKET, make_spam_job
from tests.waiting import wait_for

PHASES = ["Pending", "Preparing", "Starting", "Running", "Evaluating", "Publishing", "Succeeded"]
MINUTES = 60


@dataclass(frozen=True)
class Run:
    """What was seen of one job from apply to its end."""

    phases: list[str]
    scraped: dict[str, str]
    """Pod -> /metrics during training."""
    pods: list[dict[str, Any]]
    status: dict[str, Any]
    published: Path


@pytest.fixture(scope="module")
def run(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Run:
    with Watch(ground.kubectl, "spam") as watch:
        ground.kubectl.apply(make_spam_job("spam"))
        wait_for(lambda: "Running" in watch.phases, "the job trains", seconds=5 * MINUTES)
        pods = ground.kubectl.list("pods", "finetune.dev/job=spam")
        scraped = {
            name: wait_for(lambda name=name: _scrape(ground, name), f"{name} counts steps", seconds=MINUTES)
            for name in (pod["metadata"]["name"] for pod in pods)
        }
        ground.kubectl.wait("spam", "Succeeded", timeout=10 * MINUTES)
        wait_for(lambda: watch.phases[-1] == "Succeeded", "the watch shows the end", seconds=MINUTES)
    status = ground.kubectl.get("ftj", "spam")["status"]
    folder = ground.bucket.download(status["published"]["uri"], tmp_path_factory.mktemp("published"))
    return Run(watch.phases, scraped, pods, status, folder)


def _scrape(ground: Ground, pod: str) -> str | None:
    text = ground.kubectl.pod_port(pod, 8080, "/metrics")
    return text if "\nfinetune_step{" in text else None


def test_phases_are_seen_in_order(run: Run) -> None:
    assert [phase for phase in PHASES if phase in run.phases] == [p for p in run.phases if p in PHASES]
    assert run.phases[0] in ("Pending", "Preparing")
    assert {"Preparing", "Starting", "Running", "Evaluating"} <= set(run.phases)
    assert run.phases[-1] == "Succeeded"


def test_conditions_say_so_too(run: Run) -> None:
    conditions = {condition["type"]: condition["status"] for condition in run.status["conditions"]}
    assert conditions == {"Accepted": "True", "DataReady": "True", "Running": "False", "Succeeded": "True"}


def test_metrics_of_every_pod_were_scraped_during_training(run: Run) -> None:
    assert len(run.scraped) == 2
    for text in run.scraped.values():
        assert 'namespace="team-a"' in text
        assert 'job="spam"' in text


def test_pods_ran_as_restricted_without_a_token(run: Run) -> None:
    assert len(run.pods) == 2
    for pod in run.pods:
        container = pod["spec"]["containers"][0]
        security = {**pod["spec"]["securityContext"], **container["securityContext"]}
        assert security["runAsNonRoot"] is True
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert not any("token" in json.dumps(volume) for volume in pod["spec"]["volumes"])


def test_published_model_reaches_the_accuracy_that_status_and_report_say(ground: Ground, run: Run) -> None:
    measured = _accuracy(run.published, ground.spam / "test.jsonl", max_length=96)
    report = ground.bucket.read_json(run.status["report"].replace("report.html", "report.json"))
    assert measured >= 0.94
    assert round(run.status["evaluation"]["test"]["accuracy"], 4) == round(measured, 4)
    assert round(report["metrics"]["test"]["accuracy"], 4) == round(measured, 4)


def _accuracy(folder: Path, rows: Path, max_length: int) -> float:
    """Accuracy by transformers alone: nothing of ours takes part."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    examples = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    right = 0
    for start in range(0, len(examples), 32):
        batch = examples[start : start + 32]
        inputs = tokenizer(
            [row["text"] for row in batch], truncation=True, max_length=max_length, padding=True, return_tensors="pt"
        )
        with torch.no_grad():
            predicted = model(**inputs).logits.argmax(-1).tolist()
        right += sum(
            model.config.id2label[number] == row["label"] for number, row in zip(predicted, batch, strict=True)
        )
    return right / len(examples)


def test_everything_a_user_looks_for_lies_beside_the_model(ground: Ground, run: Run) -> None:
    published = set(ground.bucket.keys(run.status["published"]["uri"]))
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "finetune-manifest.json"} <= published
    job = run.status["report"].rsplit("/", 1)[0]
    assert {"report.json", "report.html", "outcome.json", "ledger.json"} <= set(ground.bucket.keys(job))


def test_status_lists_checkpoints_that_exist(ground: Ground, run: Run) -> None:
    assert run.status["checkpoints"]
    for record in run.status["checkpoints"]:
        assert record["state"] in ("Evaluated", "Promoted")
        assert "manifest.json" in ground.bucket.keys(record["uri"])


def test_pods_exit_by_themselves_and_stay_for_their_logs(ground: Ground, run: Run) -> None:
    def finished() -> bool:
        pods = ground.kubectl.list("pods", "finetune.dev/job=spam")
        return len(pods) == 2 and all(pod["status"]["phase"] == "Succeeded" for pod in pods)

    wait_for(finished, "both pods exit 0", seconds=MINUTES)


def test_events_tell_the_story(ground: Ground, run: Run) -> None:
    events = json.loads(ground.kubectl("get", "events", "-o", "json"))["items"]
    reasons = {event["reason"] for event in events if event["involvedObject"]["name"] == "spam"}
    assert reasons == {"PodsCreated", "Prepared", "AttemptStarted", "Training", "CheckpointVerified", "Published"}


def test_deleting_the_job_removes_the_pods_and_leaves_the_bucket(ground: Ground, run: Run) -> None:
    before = ground.bucket.keys(f"s3://{BUCKET}/out")
    ground.kubectl("delete", "ftj", "spam", "--wait=true")
    wait_for(
        lambda: not ground.kubectl.list("pods,configmaps", "finetune.dev/job=spam"),
        "children are gone",
        seconds=MINUTES,
    )
    assert ground.bucket.keys(f"s3://{BUCKET}/out") == before
