"""Builders of the jobs that the drills break: small steps, many checkpoints, and sabotage on demand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.endtoend.make import BUCKET, SECRET, make_spam_job

SABOTAGE = "sabotage"
SAVE_STEPS = 20
CODE_FOLDER = "/opt/finetune/code"
"""Where the trainer image holds our code (Dockerfile)."""


def make_drill_job(name: str, **changes: Any) -> dict[str, Any]:
    """Spam mail, MiniLM by LoRA, two pods: thousands of small steps, checkpoints often; `changes` replace parts."""
    spec: dict[str, Any] = {
        "strategy": {"method": "lora", "lora": {"rank": 4, "dropout": 0.1}},
        "data": {
            "train": {"source": f"s3://{BUCKET}/spam/train.jsonl"},
            "columns": {"text": "text", "label": "label"},
            "split": {"validation": 0.01, "test": 0.0},
            "prepare": "inline",
        },
        "training": {
            "maxSteps": 20_000,
            "batchSize": 8,
            "microBatchSize": 4,
            "maxLength": 16,
            "learningRate": 1.0e-4,
        },
        "evaluation": {"metric": "f1", "everySteps": 20_000},
        "checkpoints": {"everySteps": SAVE_STEPS, "keepLast": 3},
        "failurePolicy": {"numeric": "rollback", "timeouts": {"stepSeconds": 15}},
        "lifecycle": {"backoffLimit": 100, "stopGraceSeconds": 60},
        "resources": {"nodes": 2, "cpu": "300m", "memory": "3Gi"},
        "pod": make_sabotaged_pod(),
    }
    return make_spam_job(name, **{**spec, **changes})


def make_sabotaged_pod(**more: Any) -> dict[str, Any]:
    """`spec.pod` by which sabotage.py is loaded into every Python process."""
    return {
        "env": [{"name": "PYTHONPATH", "value": f"/{SABOTAGE}:{CODE_FOLDER}"}],
        "volumes": [{"name": SABOTAGE, "configMap": {"name": SABOTAGE}}],
        "volumeMounts": [{"name": SABOTAGE, "mountPath": f"/{SABOTAGE}"}],
        "terminationGracePeriodSeconds": 60,
        **more,
    }


def make_namespace_objects(namespace: str, environment: dict[str, str]) -> list[dict[str, Any]]:
    """The drills' own namespace, restricted as a team's is, with the bucket's keys and the sabotage."""
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    source = (Path(__file__).parent / "sabotage.py").read_text(encoding="utf-8")
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": restricted}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "stringData": environment},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": SABOTAGE},
            "data": {"sitecustomize.py": source},
        },
    ]
