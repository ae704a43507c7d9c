"""(a) From apply to the first optimizer step, data prepared: our job against a bare pair of pods of the same image."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

from rich.progress import track

from tests.bench.cluster import stand
from tests.bench.row import Row
from tests.endtoend.ground import Ground
from tests.endtoend.make import BUCKET, SECRET, make_spam_job
from tests.waiting import wait_for

GOAL_SECONDS = 3
REPEATS = 5
TRAINING = {"maxSteps": 2, "batchSize": 32, "microBatchSize": 16, "maxLength": 96, "learningRate": 1.0e-4}
DATA = {
    "train": {"source": f"s3://{BUCKET}/spam/train.jsonl"},
    # Without test rows nothing is judged before the first step: bare pods would not do that either.
    "split": {"validation": 0.02, "test": 0.0},
}
SERVICE = "bare"


def measure() -> Row:
    """Median of five pairs; one warm-up job prepares the data that all of them use."""
    ground = stand()
    _run_job(ground, "warm")
    pointer = _prepared(ground)
    ours, bare = [], []
    for number in track(range(REPEATS), "apply -> first step"):
        bare.append(_run_bare(ground, pointer, number))
        ours.append(_run_job(ground, f"start-{number}"))
    more = statistics.median(ours) - statistics.median(bare)
    how = f"median of {REPEATS}: ours {statistics.median(ours):.1f} s, bare pods {statistics.median(bare):.1f} s"
    return Row("apply -> first step, beyond bare pods", more, GOAL_SECONDS, "s", how, {"ours": ours, "bare": bare})


def _run_job(ground: Ground, name: str) -> float:
    """Seconds from before `kubectl apply` to the end of the first optimizer step, by the workers' own clock."""
    job = make_spam_job(name, data=DATA, training=TRAINING, evaluation={"everySteps": 2})
    began = time.time()
    ground.kubectl.apply(job)
    first = wait_for(lambda: _first_step(ground, name), f"{name} makes its first step", seconds=300)
    ground.kubectl.wait(name, "Succeeded", timeout=600)
    if name != "warm":
        ground.kubectl("delete", "ftj", name, "--wait=true", timeout=120)
        wait_for(lambda: not ground.kubectl.list("pods", f"finetune.dev/job={name}"), "pods are gone", seconds=180)
    return first - began


def _first_step(ground: Ground, name: str) -> float | None:
    found: float | None = ground.kubectl.get("ftj", name).get("status", {}).get("progress", {}).get("firstStepAt")
    return found


def _prepared(ground: Ground) -> dict[str, Any]:
    job = ground.kubectl.get("ftj", "warm")["status"]["report"].rsplit("/", 1)[0]
    pointer: dict[str, Any] = ground.bucket.read_json(f"{job}/prepared.json")
    ground.kubectl("delete", "ftj", "warm", "--wait=true", timeout=120)
    return pointer


def _run_bare(ground: Ground, pointer: dict[str, Any], number: int) -> float:
    objects = _bare_objects(ground, pointer, number)
    names = [item["metadata"]["name"] for item in objects if item["kind"] == "Pod"]
    began = time.time()
    ground.kubectl.apply(*objects)
    first = max(wait_for(lambda name=name: _said(ground, name), f"{name} trains", seconds=300) for name in names)
    for item in objects:
        ground.kubectl("delete", item["kind"], item["metadata"]["name"], "--now", timeout=120)
    return first - began


def _said(ground: Ground, pod: str) -> float | None:
    if ground.kubectl.get("pod", pod)["status"].get("phase") not in ("Running", "Succeeded", "Failed"):
        return None
    lines = [line for line in ground.kubectl("logs", pod).splitlines() if line.startswith('{"first_step_at"')]
    return float(json.loads(lines[0])["first_step_at"]) if lines else None


def _bare_objects(ground: Ground, pointer: dict[str, Any], number: int) -> list[dict[str, Any]]:
    script = (Path(__file__).parent / "bare_trainer.py").read_text(encoding="utf-8")
    head = {"name": SERVICE, "labels": {"bare": str(number)}}
    service = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"bare": str(number)}}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": head, "data": {"bare_trainer.py": script}},
        {"apiVersion": "v1", "kind": "Service", "metadata": head, "spec": service},
        *(_bare_pod(ground, pointer, number, rank) for rank in range(2)),
    ]


def _bare_pod(ground: Ground, pointer: dict[str, Any], number: int, rank: int) -> dict[str, Any]:
    """As restricted and as large as ours: the difference must be ours alone."""
    master = f"bare-{number}-0.{SERVICE}.{ground.kubectl.namespace}.svc.cluster.local"
    values = {"RANK": rank, "LOCAL_RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": master, "MASTER_PORT": 29500}
    values |= {"BUCKET": ground.bucket.name, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": 2, "HOME": "/tmp"}
    prefixes = [pointer[key].removeprefix(f"s3://{ground.bucket.name}/") for key in ("uri", "modelUri")]
    container = {
        "name": "trainer",
        "image": _trainer_image(ground),
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "/bare/bare_trainer.py", *prefixes],
        "env": [{"name": name, "value": str(value)} for name, value in values.items()],
        "envFrom": [{"secretRef": {"name": SECRET}}],
        "resources": {"requests": {"cpu": "500m", "memory": "4Gi"}, "limits": {"memory": "4Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "script", "mountPath": "/bare"},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }
    spec = {
        "restartPolicy": "Never",
        "hostname": f"bare-{number}-{rank}",
        "subdomain": SERVICE,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [
            {"name": "script", "configMap": {"name": SERVICE}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
        ],
    }
    labels = {"bare": str(number)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"bare-{number}-{rank}", "labels": labels},
        "spec": spec,
    }


def _trainer_image(ground: Ground) -> str:
    """The image that the operator was installed with."""
    deployment = ground.system.get("deployment", "finetune-operator")
    env = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    image: str = next(item["value"] for item in env if item["name"] == "FINETUNE_OPERATOR_TRAINER_IMAGE")
    return image
