"""One job under fire: what it says, what its pods say, and what must hold however it ends."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.drills.cluster.containers import Process, find_agent, find_workers
from tests.drills.cluster.drill_ground import DrillGround
from tests.waiting import wait_for

AGENT_PORT = 8080
START_SECONDS = 300
Found = TypeVar("Found")


@dataclass(frozen=True)
class Look:
    """The job at one moment."""

    status: dict[str, Any]
    pods: dict[int, dict[str, Any]]
    """Node index -> newest trainer pod that is not about to go."""

    @property
    def attempt(self) -> int:
        """Number of the newest attempt."""
        attempts = self.status.get("attempts", [])
        return int(attempts[-1]["number"]) if attempts else 0

    @property
    def uids(self) -> dict[int, str]:
        """Node index -> uid of its pod."""
        return {index: pod["metadata"]["uid"] for index, pod in self.pods.items()}

    def attempt_entry(self, number: int) -> dict[str, Any]:
        """status.attempts of one number."""
        found: dict[str, Any] = next(entry for entry in self.status["attempts"] if entry["number"] == number)
        return found


@dataclass
class WatchedJob:
    """A job that was applied, and every verified checkpoint that its status ever named."""

    ground: DrillGround
    name: str
    verified: dict[tuple[int, int], str] = field(default_factory=dict)
    """(step, attempt) -> folder."""

    def look(self) -> Look:
        """The job now."""
        status = {"phase": "Pending", **self.ground.kubectl.get("ftj", self.name).get("status", {})}
        pods = self.ground.kubectl.list("pods", f"finetune.dev/job={self.name},finetune.dev/role=trainer")
        alive = [
            pod
            for pod in pods
            if "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") in ("Pending", "Running")
        ]
        by_age = sorted(alive, key=lambda pod: int(pod["metadata"]["labels"]["finetune.dev/incarnation"]))
        for entry in status.get("checkpoints", []):
            if entry["state"] != "Saved":
                self.verified[entry["step"], entry["attempt"]] = entry["uri"]
        return Look(status, {int(pod["metadata"]["labels"]["finetune.dev/node-index"]): pod for pod in by_age})

    def agents(self) -> dict[int, dict[str, Any]]:
        """Node index -> what its agent says; those that do not answer are absent."""
        said = {}
        for index, pod in self.look().pods.items():
            try:
                text = self.ground.kubectl.pod_port(pod["metadata"]["name"], AGENT_PORT, "/progress", timeout=5)
                said[index] = json.loads(text)
            except (AssertionError, json.JSONDecodeError, subprocess.TimeoutExpired):
                continue
        return said

    def folder(self) -> str:
        """URI of the job's folder in the store."""
        metadata = self.ground.kubectl.get("ftj", self.name)["metadata"]
        return f"s3://{self.ground.bucket.name}/out/{self.name}-{metadata['uid'][:8]}"

    def ledger(self) -> list[dict[str, Any]]:
        """Entries of the ledger as it lies in the store."""
        found: list[dict[str, Any]] = self.ground.bucket.read_json(f"{self.folder()}/ledger.json")["checkpoints"]
        return found

    def worker(self, node: int) -> Process:
        """The only worker of a node."""
        uid = self.look().uids[node]
        return wait_for(lambda: next(iter(find_workers(uid)), None), f"node {node} has a worker", seconds=60)

    def agent(self, node: int) -> Process:
        """The agent of a node."""
        uid = self.look().uids[node]
        return wait_for(lambda: find_agent(uid), f"node {node} has an agent", seconds=60)

    def trains(self, attempt: int, beyond: int = 0, nodes: int = 2) -> float | None:
        """When this attempt (or a later one) made its first step, once all its members are beyond a step."""
        said = self.agents()
        there = [each for each in said.values() if each["attempt"] >= attempt and each["phase"] == "Training"]
        steps = [rank["step"] for each in there for rank in each["ranks"]]
        first = [each["step"]["firstStepAt"] for each in there if "firstStepAt" in each["step"]]  # rank 0 tells it
        if len(there) < nodes or not steps or min(steps) <= beyond or not first:
            return None
        return float(first[0])

    def await_training(self, attempt: int = 1, beyond: int = 0, nodes: int = 2) -> float:
        """Wait for that; return when the first step was made."""
        what = f"{self.name}: attempt {attempt} trains beyond step {beyond} on {nodes} nodes"
        return self._explained(
            lambda: wait_for(lambda: self.trains(attempt, beyond, nodes), what, seconds=START_SECONDS)
        )

    def await_checkpoint(self, beyond: int, seconds: float = START_SECONDS) -> int:
        """Wait for a verified checkpoint after a step in the status; return its step."""

        def newest() -> int | None:
            self.look()
            steps = [step for step, _ in self.verified if step > beyond]
            return max(steps, default=None)

        what = f"{self.name}: a checkpoint after step {beyond}"
        return self._explained(lambda: wait_for(newest, what, seconds=seconds))

    def await_status(self, holds: Callable[[dict[str, Any]], object], what: str, seconds: float = 120) -> Look:
        """Wait until the status says something."""

        def check() -> Look | None:
            look = self.look()
            return look if holds(look.status) else None

        return self._explained(lambda: wait_for(check, f"{self.name}: {what}", seconds=seconds))

    def apply_patch(self, spec: dict[str, Any]) -> None:
        """Merge into the spec."""
        self.ground.kubectl("patch", "ftj", self.name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def _explained(self, wait: Callable[[], Found]) -> Found:
        """A wait in vain says what the job said last."""
        try:
            return wait()
        except AssertionError as error:
            status = {key: value for key, value in self.look().status.items() if key not in ("resolved", "display")}
            raise AssertionError(f"{error}\n{json.dumps(status, indent=1)}\n{json.dumps(self.agents())}") from error


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    """One condition; empty where the status has none of that type."""
    return next((each for each in status.get("conditions", []) if each["type"] == kind), {})
