"""(d) From a killed worker, and from a killed pod, to the next optimizer step.

The model is small, so that loading it hardly counts; it is not taken off. The parts are told beside the sum.
"""

from __future__ import annotations

import json
import signal
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from rich.progress import track

from tests.bench.row import Row
from tests.drills.cluster.drill_ground import prepare_drill_ground
from tests.drills.cluster.make import make_drill_job
from tests.drills.cluster.siege import settle
from tests.drills.cluster.watched_job import AGENT_PORT, WatchedJob
from tests.ground import cluster, images
from tests.waiting import wait_for

WORKER_GOAL_SECONDS = 5
POD_GOAL_SECONDS = 15
REPEATS = 5
LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Parts:
    """Where the seconds of one recovery went, as the agent of node 0 (whose pod lives on) saw it."""

    attempt: float
    """Until the agent has the next attempt: the fault is noticed, told, judged, a pod replaced where one was lost."""
    worker: float
    """Until its worker says its first word: storage is touched, inputs are there, the fork."""
    step: float
    """Until the end of the first step: join, load, resume, one step."""

    @property
    def total(self) -> float:
        """The whole."""
        return self.attempt + self.worker + self.step


def measure() -> list[Row]:
    """Median of five of each, on one job that goes on."""
    kubeconfig = cluster.up()
    images.bring()
    with prepare_drill_ground(kubeconfig, Path(tempfile.mkdtemp(prefix="finetune-bench-"))) as ground:
        job = WatchedJob(ground, "recover")
        ground.kubectl.apply(make_drill_job(job.name))
        job.await_training()
        return [
            _measure_one(job, "killed worker -> next step", _kill_worker, WORKER_GOAL_SECONDS),
            _measure_one(job, "killed pod -> next step", _kill_pod, POD_GOAL_SECONDS),
        ]


def _kill_worker(job: WatchedJob) -> None:
    job.worker(1).strike(signal.SIGKILL)


def _kill_pod(job: WatchedJob) -> None:
    job.agent(1).strike(signal.SIGKILL)


def _measure_one(job: WatchedJob, what: str, strike: Callable[[WatchedJob], None], goal: float) -> Row:
    seen = [_recover(job, strike) for _ in track(range(REPEATS), what)]
    middle = Parts(*(statistics.median(values) for values in zip(*(astuple(parts) for parts in seen), strict=True)))
    parts = f"next attempt {middle.attempt:.1f} s, worker {middle.worker:.1f} s, step {middle.step:.1f} s"
    how = f"median of {REPEATS}: {parts}"
    samples = {"total": [parts.total for parts in seen]}
    return Row(what, statistics.median(samples["total"]), goal, "s", how, samples)


def _recover(job: WatchedJob, strike: Callable[[WatchedJob], None]) -> Parts:
    standing = settle(job)
    address, number = standing.look.pods[0]["status"]["podIP"], standing.look.attempt + 1
    struck = time.time()
    strike(job)
    begun = wait_for(
        lambda: time.time() if _ask(address)["attempt"] >= number else None,
        "the next attempt begins",
        seconds=120,
        interval=LOOK_SECONDS,
    )
    spoken = wait_for(lambda: _first_word(address), "its worker speaks", seconds=120, interval=LOOK_SECONDS)
    stepped = job.await_training(number)
    return Parts(begun - struck, spoken - begun, stepped - spoken)


def _first_word(address: str) -> float | None:
    ranks = _ask(address)["ranks"]
    return float(ranks[0]["at"]) if ranks else None


def _ask(address: str) -> dict[str, Any]:
    """What an agent says; pods are reached from the machine that is all of the cluster's nodes."""
    with urllib.request.urlopen(f"http://{address}:{AGENT_PORT}/progress", timeout=5) as answer:
        said: dict[str, Any] = json.load(answer)
    return said
