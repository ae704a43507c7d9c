"""Jobs that must not end in a published model: each says why, in one sentence, and does not try again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.endtoend.ground import Ground
from tests.endtoend.make import BUCKET, make_spam_job

SECONDS_TO_SAY_SO = 90


def test_gate_that_no_model_can_pass_leaves_a_checkpoint_and_publishes_nothing(ground: Ground) -> None:
    gate = [{"metric": "accuracy", "split": "test", "min": 1.01}]
    training = {"maxSteps": 4, "batchSize": 16, "maxLength": 64}
    job = make_spam_job("gate", training=training, evaluation={"everySteps": 2, "gate": gate})
    job["spec"]["data"]["prepare"] = "pod"
    ground.kubectl.apply(job)
    ground.kubectl.wait("gate", "Failed", timeout=600)
    status = ground.kubectl.get("ftj", "gate")["status"]
    assert _failed(status)["reason"] == "GateFailed"
    assert status["phase"] == "Failed"
    assert status["evaluation"]["gate"][0]["passed"] is False
    assert "published" not in status
    keys = ground.bucket.keys(status["report"].rsplit("/", 1)[0])
    assert any(key.startswith("checkpoints/") and key.endswith("manifest.json") for key in keys)
    assert not any(key.startswith("published/") for key in keys)
    pods = ground.kubectl.list("pods", "finetune.dev/job=gate")
    assert sorted(pod["metadata"]["labels"]["finetune.dev/role"] for pod in pods) == ["prepare", "trainer", "trainer"]


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        pytest.param("bucket", {"output": {"destination": "s3://no-such-bucket/out"}}, ["no-such-bucket"], id="bucket"),
        pytest.param(
            "column",
            {
                "data": {
                    "train": {"source": f"s3://{BUCKET}/spam/train.jsonl"},
                    "columns": {"text": "text", "label": "labell"},
                }
            },
            ["data.columns.label", "labell", "text"],
            id="column",
        ),
    ],
)
def test_user_error_is_said_within_seconds_and_not_retried(
    ground: Ground, name: str, changes: dict[str, Any], words: list[str]
) -> None:
    ground.kubectl.apply(make_spam_job(name, **changes))
    ground.kubectl.wait(name, "Failed", timeout=SECONDS_TO_SAY_SO)
    status = ground.kubectl.get("ftj", name)["status"]
    message = _failed(status)["message"]
    assert all(word in message for word in words), message
    assert status["failure"]["failureClass"] == "User"
    assert len(status["attempts"]) == 1
    pods = ground.kubectl.list("pods", f"finetune.dev/job={name}")
    assert {pod["metadata"]["labels"]["finetune.dev/incarnation"] for pod in pods} == {"0"}


def _failed(status: dict[str, Any]) -> dict[str, Any]:
    return next(condition for condition in status["conditions"] if condition["type"] == "Failed")
