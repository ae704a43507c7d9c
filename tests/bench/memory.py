"""(c) The operator's memory at rest: resident set of its pod, no job running."""

from __future__ import annotations

import re

from tests.bench.cluster import stand
from tests.bench.row import Row
from tests.waiting import wait_for

GOAL_MEGABYTES = 120


def measure() -> Row:
    """Restart the operator and read its own resident set once it is ready."""
    ground = stand()
    ground.system("rollout", "restart", "deployment/finetune-operator")
    ground.system("rollout", "status", "deployment/finetune-operator", "--timeout=120s", timeout=130)
    selector = "app.kubernetes.io/name=finetune-operator"
    pods = wait_for(
        lambda: [p for p in ground.system.list("pods", selector) if "deletionTimestamp" not in p["metadata"]],
        "the operator's pod",
        seconds=60,
    )
    text = ground.system.pod_port(pods[0]["metadata"]["name"], 8080, "/metrics")
    found = re.search(r"^process_resident_memory_bytes (\S+)$", text, re.MULTILINE)
    assert found, "the operator does not export process_resident_memory_bytes"
    return Row("operator memory at rest", float(found[1]) / 1e6, GOAL_MEGABYTES, "MB", "resident set after a restart")
