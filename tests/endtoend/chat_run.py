"""The chat job from apply to its end, with a worker and the operator killed on the way: what many tests look at."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from tests.endtoend.ground import Ground
from tests.endtoend.make import make_chat_job
from tests.endtoend.scraped import Scraped
from tests.waiting import wait_for

NAME = "chat"
MINUTES = 60
_KILL_A_WORKER = """
import os, pathlib, signal
def fields(pid): return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
def command(pid): return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\\0", b" ").decode()
alive = [int(each) for each in os.listdir("/proc") if each.isdigit()]
launchers = {pid for pid in alive if "multiprocessing.forkserver" in command(pid)}
worker = next(pid for pid in alive if int(fields(pid)[1]) in launchers and fields(pid)[0] != "Z")
os.kill(worker, signal.SIGKILL)
"""


@dataclass(frozen=True)
class ChatRun:
    """What was seen of it."""

    status: dict[str, Any]
    began: float
    """Seconds since 1970."""
    ended: float
    trainers: tuple[str, ...]
    """Names of its pods."""
    operators: tuple[str, ...]
    """Names of the operator's pods, those that were killed too."""


def run_chat_job(ground: Ground, scraped: Scraped | None) -> ChatRun:
    """Apply it, kill a worker once there are steps to lose, kill the operator in the next attempt, await the end.

    It has ended when those who look on have seen it too.
    """
    ground.kubectl("delete", "ftj", NAME, "--ignore-not-found", timeout=3 * MINUTES)  # of an earlier session
    began = time.time()
    before = _operators(ground)
    ground.kubectl.apply(make_chat_job(NAME))
    trainers = wait_for(lambda: _trainers(ground), "both pods are there", seconds=5 * MINUTES)
    wait_for(lambda: _steps(ground, trainers[0], 1) >= 2, "the job makes steps", seconds=5 * MINUTES)
    ground.kubectl("exec", trainers[1], "--", "python", "-c", _KILL_A_WORKER)
    wait_for(lambda: _steps(ground, trainers[0], 2) >= 1, "the next attempt makes steps", seconds=5 * MINUTES)
    ground.system("delete", "pod", "-l", "app.kubernetes.io/name=finetune-operator", "--wait=false")
    ground.kubectl.wait(NAME, "Succeeded", timeout=15 * MINUTES)
    ended = f'finetune_job_info{{job="{NAME}",phase="Succeeded"}}'
    for prometheus in (scraped.by_monitors, scraped.by_annotations) if scraped else ():
        wait_for(lambda prometheus=prometheus: prometheus.query(ended), "Prometheus has seen the end", seconds=MINUTES)
    status: dict[str, Any] = ground.kubectl.get("ftj", NAME)["status"]
    return ChatRun(status, began, time.time(), trainers, tuple(sorted(before | _operators(ground))))


def _operators(ground: Ground) -> set[str]:
    pods = ground.system.list("pods", "app.kubernetes.io/name=finetune-operator")
    return {pod["metadata"]["name"] for pod in pods}


def _trainers(ground: Ground) -> tuple[str, ...]:
    """Names of the two pods by node, or none before both are there."""
    pods = ground.kubectl.list("pods", f"finetune.dev/job={NAME},finetune.dev/role=trainer")
    by_node = sorted(pods, key=lambda pod: int(pod["metadata"]["labels"]["finetune.dev/node-index"]))
    return tuple(pod["metadata"]["name"] for pod in by_node) if len(pods) == 2 else ()


def _steps(ground: Ground, pod: str, attempt: int) -> int:
    """Steps that every rank of the pod has made in an attempt; 0 while it does not answer."""
    try:
        said = json.loads(ground.kubectl.pod_port(pod, 8080, "/progress"))
    except (AssertionError, json.JSONDecodeError):
        return 0
    if said["attempt"] < attempt or said["phase"] != "Training":
        return 0
    return min((rank["step"] for rank in said["ranks"]), default=0)
