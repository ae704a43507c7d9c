"""Jobs that both validators accept: short ones, complete ones, and the odd forms that kubectl users write."""

from __future__ import annotations

from finetune_contract.names import LABEL_QUEUE
from finetune_contract.spec.columns import list_columns
from finetune_contract.spec.task import TASK_COLUMNS, TASK_OPTIONAL_COLUMNS
from tests.contract.make import Data, make_data

SECRET_VALUE: Data = {"secretKeyRef": {"name": "hub", "key": "token"}}

COMPLETE: Data = {
    "task": "text-generation",
    "model": {"source": "hf://HuggingFaceTB/SmolLM2-135M-Instruct", "revision": "v1"},
    "data": {
        "train": {"source": "hf://a/chats", "split": "train_sft"},
        "validation": {"source": "pvc://claim/validation.jsonl", "format": "jsonl"},
        "test": {"source": "https://example.org/test.parquet"},
        "columns": {"prompt": "question", "completion": "answer"},
        "prepare": "pod",
        "split": {"validation": 0.2, "test": 0, "seed": 7, "stratify": False, "group": "document"},
        "clean": {"normalizeUnicode": True, "collapseWhitespace": True, "stripHtml": True, "minCharacters": 3},
        "deduplicate": {"method": "near", "threshold": 0.7},
        "contamination": "report",
        "maxMaskedShare": 0.5,
    },
    "strategy": {"method": "lora", "lora": {"rank": 8, "alpha": 16, "dropout": 0, "targets": ["q_proj", "v_proj"]}},
    "training": {
        "epochs": 1.5, "maxSteps": 100, "batchSize": 64, "microBatchSize": 4, "maxLength": 512, "learningRate": 2e-5,
        "lrScheduler": "cosine", "warmupRatio": 0.03, "weightDecay": 0, "maxGradNorm": 0.5, "labelSmoothing": 0.1,
        "precision": "fp16", "seed": 1, "gradientCheckpointing": True, "packing": True,
        "deepspeed": {"zeroStage": 3, "offload": "parameters", "config": {"wall_clock_breakdown": True}},
    },
    "evaluation": {
        "metric": "loss", "everySteps": 10, "batchSize": 8, "earlyStopping": {"patience": 2, "minDelta": 0.001},
        "gate": [{"metric": "perplexity", "split": "test", "max": 20}, {"metric": "f1", "min": 1.01}],
    },
    "output": {"destination": "gs://ml/models"},
    "resources": {
        "nodes": 2, "gpusPerNode": 8, "cpu": "8", "memory": "64Gi", "gpuResource": "amd.com/gpu",
        "elastic": {"minNodes": 1, "maxNodes": 4, "patienceSeconds": 60},
    },
    "pod": {
        "image": "registry.example/trainer:1", "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [
            {"operator": "Exists"}, {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
            {"key": "spot", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
        ],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
        "topologySpread": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
        "priorityClassName": "research", "schedulerName": "default-scheduler", "runtimeClassName": "nvidia",
        "serviceAccountName": "trainer",
        "env": [{"name": "NCCL_DEBUG", "value": "INFO"}, {"name": "HF_TOKEN", "valueFrom": SECRET_VALUE}],
        "envFrom": [{"secretRef": {"name": "a"}}, {"prefix": "B_", "configMapRef": {"name": "b"}}],
        "volumes": [{"name": "scratch", "emptyDir": {}}, {"name": "share", "nfs": {"server": "a", "path": "/b"}}],
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch", "subPath": "a", "readOnly": True}],
        "sharedMemory": "8Gi", "labels": {"team": "a"}, "annotations": {"cost-center": "12"},
        "terminationGracePeriodSeconds": 300,
    },
    "suspend": False,
    "lifecycle": {
        "activeDeadlineSeconds": 86_400, "queueDeadlineSeconds": 600, "ttlSecondsAfterFinished": 0, "backoffLimit": 0,
        "stopGraceSeconds": 60, "evictionGraceSeconds": 60,
    },
    "failurePolicy": {
        "hang": "fail", "numeric": "rollback", "numericBudget": 3, "lossSpikeFactor": 10,
        "timeouts": {
            "startSeconds": 60, "firstStepSeconds": 60, "stepSeconds": 30, "evaluationSeconds": 60, "saveSeconds": 60,
        },
    },
    "checkpoints": {"everyMinutes": 15, "keepLast": 3, "keepBest": 2},
    "budget": {"maxGpuHours": 12.5},
    "storage": {"secretRef": {"name": "object-storage"}},
}  # fmt: skip


def _columns_of(task: str) -> dict[str, Data]:
    optional = TASK_OPTIONAL_COLUMNS.get(task, ())
    return {
        f"{task} with {', '.join(columns)}": make_data(
            {"task": task, "data": {"columns": {name: f"my_{name}" for name in (*columns, *optional)}}}
        )
        for columns in TASK_COLUMNS[task]
    }


def _odd_forms() -> dict[str, Data]:
    null = make_data()
    null["spec"] |= {"resources": None, "training": {"epochs": None}, "pod": {"labels": {"a": None}, "image": None}}
    free = make_data()
    free["spec"]["pod"] = {"affinity": {"nodeAffinity": None}}
    float_steps = make_data({"training": {"maxSteps": 3.0, "epochs": 3}})
    return {"null fields": null, "null inside a free object": free, "whole floats": float_steps}


GOOD_JOBS: dict[str, Data] = {
    "the shortest": make_data(),
    "every field": make_data(COMPLETE),
    "queue label": make_data(labels={LABEL_QUEUE: "research"}, annotations={"note": "1"}),
    "local folders": make_data({"model": {"source": "file:///m"}, "output": {"destination": "file://out"}}),
    "one column": make_data({"task": "text-generation", "data": {"columns": {"completion": "answer"}}}),
    "one letter": make_data(name="a"),
    "63 letters": make_data(name="a" * 63),
    "empty parts": make_data({part: {} for part in ("strategy", "training", "evaluation", "pod", "lifecycle")}),
    **_odd_forms(),
    **{name: job for task in TASK_COLUMNS for name, job in _columns_of(task).items()},
    **{f"{task} without columns": make_data({"task": task}) for task in TASK_COLUMNS if list_columns(task)},
}
