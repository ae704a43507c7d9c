"""Builders of the jobs that the end-to-end tests apply: each is a valid job, and a test changes what it is about."""

from __future__ import annotations

from typing import Any

SECRET = "object-storage"


def make_spam_job(name: str = "spam", **changes: Any) -> dict[str, Any]:
    """Spam mail, MiniLM, two nodes; `changes` replace parts of the spec."""
    spec: dict[str, Any] = {
        "task": "text-classification",
        "model": {"source": "s3://ml/models/minilm"},
        "data": {
            "train": {"source": "s3://ml/spam/train.jsonl"},
            "test": {"source": "s3://ml/spam/test.jsonl"},
            "columns": {"text": "text", "label": "label"},
        },
        "training": {"maxSteps": 80, "batchSize": 32, "microBatchSize": 16, "maxLength": 96, "learningRate": 1.0e-4},
        "evaluation": {"metric": "f1", "everySteps": 40, "gate": [{"metric": "accuracy", "split": "test", "min": 0.9}]},
        "output": {"destination": "s3://ml/out"},
        "resources": {"nodes": 2, "cpu": "500m", "memory": "4Gi"},
        "storage": {"secretRef": {"name": SECRET}},
    }
    return _job(name, {**spec, **changes})


def make_chat_job(name: str = "chat", **changes: Any) -> dict[str, Any]:
    """Chat messages, an 8-layer SmolLM2, LoRA."""
    spec: dict[str, Any] = {
        "task": "text-generation",
        "model": {"source": "s3://ml/models/smollm2"},
        "data": {
            "train": {"source": "s3://ml/chat/train.jsonl"},
            "test": {"source": "s3://ml/chat/test.jsonl"},
            "columns": {"messages": "messages"},
        },
        "strategy": {"method": "lora", "lora": {"rank": 8, "alpha": 16}},
        "training": {"maxSteps": 30, "batchSize": 8, "microBatchSize": 4, "maxLength": 192, "learningRate": 1.0e-3},
        "evaluation": {"everySteps": 15, "gate": [{"metric": "perplexity", "split": "test", "max": 1000}]},
        "output": {"destination": "s3://ml/out"},
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
