"""Builders of the jobs that the end-to-end tests apply: each is a valid job, and a test changes what it is about."""

from __future__ import annotations

import os
from typing import Any

SECRET = "object-storage"
BUCKET = os.environ.get("FINETUNE_TEST_BUCKET", "research")
"""The bucket: on an S3 server of your own (AWS_ENDPOINT_URL) the one that you name."""


def make_spam_job(name: str = "spam", **changes: Any) -> dict[str, Any]:
    """Spam mail, MiniLM, two nodes; `changes` replace parts of the spec."""
    spec: dict[str, Any] = {
        "task": "text-classification",
        "model": {"source": f"s3://{BUCKET}/models/minilm"},
        "data": {
            "train": {"source": f"s3://{BUCKET}/spam/train.jsonl"},
            "test": {"source": f"s3://{BUCKET}/spam/test.jsonl"},
            "columns": {"text": "text", "label": "label"},
        },
        "training": {"maxSteps": 80, "batchSize": 32, "microBatchSize": 16, "maxLength": 96, "learningRate": 1.0e-4},
        "evaluation": {"metric": "f1", "everySteps": 40, "gate": [{"metric": "accuracy", "split": "test", "min": 0.9}]},
        "output": {"destination": f"s3://{BUCKET}/out"},
        "resources": {"nodes": 2, "cpu": "500m", "memory": "4Gi"},
        "storage": {"secretRef": {"name": SECRET}},
    }
    return _job(name, {**spec, **changes})


def make_chat_job(name: str = "chat", **changes: Any) -> dict[str, Any]:
    """Chat messages, an 8-layer SmolLM2, LoRA."""
    spec: dict[str, Any] = {
        "task": "text-generation",
        "model": {"source": f"s3://{BUCKET}/models/smollm2"},
        "data": {
            "train": {"source": f"s3://{BUCKET}/chat/train.jsonl"},
            "test": {"source": f"s3://{BUCKET}/chat/test.jsonl"},
            "columns": {"messages": "messages"},
        },
        "strategy": {"method": "lora", "lora": {"rank": 8, "alpha": 16}},
        "training": {"maxSteps": 30, "batchSize": 8, "microBatchSize": 4, "maxLength": 192, "learningRate": 1.0e-3},
        "evaluation": {"everySteps": 15, "gate": [{"metric": "perplexity", "split": "test", "max": 10000}]},
        "output": {"destination": f"s3://{BUCKET}/out"},
        "resources": {"nodes": 2, "cpu": "500m", "memory": "5Gi"},
        "storage": {"secretRef": {"name": SECRET}},
    }
    return _job(name, {**spec, **changes})


def _job(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": spec,
    }
