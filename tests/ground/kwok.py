"""kwok: nodes and kubelets that only say that they run pods, on any API server, for runs at scale.

A pod's address comes out of 127.0.0.0/8, so that one process on this machine can answer for all of them. Only nodes
with kwok's annotation are played; beside real nodes a taint keeps everybody else's pods away.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.ground import binaries, processes

ANNOTATION = "kwok.x-k8s.io/node"
NODE_LABEL = {"type": "kwok"}
"""Node selector of the played nodes."""
TAINT = {"key": ANNOTATION, "value": "fake", "effect": "NoSchedule"}
TOLERATION = {"key": ANNOTATION, "operator": "Exists", "effect": "NoSchedule"}
POD_CIDR = "127.64.0.0/10"
STAGES = Path(__file__).with_name("kwok.yaml")
PROGRAM = "kwok"
UNSCHEDULABLE = "node.kubernetes.io/not-ready"


def start(
    folder: Path,
    kubeconfig: Path,
    *,
    nodes: int = 8,
    cidr: str = POD_CIDR,
    beside_real_nodes: bool = False,
    prefix: tuple[str, ...] = (),
) -> None:
    """Start kwok and its nodes; ``prefix`` is the command into a network namespace. Again: nothing."""
    lease = ["--node-lease-duration-seconds=40"] if beside_real_nodes else []
    program = binaries.find(PROGRAM, binaries.KWOK)
    processes.start(folder, PROGRAM, [
        *prefix, str(program), f"--kubeconfig={kubeconfig}", f"--config={STAGES}", f"--cidr={cidr}",
        f"--manage-nodes-with-annotation-selector={ANNOTATION}=fake", *lease,
    ])  # fmt: skip
    taints = [TAINT] if beside_real_nodes else []
    manifests = [make_node(f"kwok-{number}", taints) for number in range(nodes)]
    _kubectl(kubeconfig, "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))
    processes.wait_until(lambda: _count_ready(kubeconfig) >= nodes, "kwok's nodes are ready", folder, PROGRAM)
    if not beside_real_nodes:
        # The API server adds it to every new node, and here is no controller manager to take it away.
        _kubectl(kubeconfig, "taint", "nodes", "--all", f"{UNSCHEDULABLE}-")
    _open_pool(folder, kubeconfig)


def _open_pool(folder: Path, kubeconfig: Path) -> None:
    """Have kwok make its pool of addresses for one pod: of several first ones two may get pools of their own.

    Then two pods have the same address (kwok 0.8.0, PodController.ipPool: looks, makes and stores without a lock).
    """
    metadata = {"name": "kwok-first", "namespace": "kube-system"}
    spec = {"nodeName": "kwok-0", "tolerations": [TOLERATION], "containers": [{"name": "none", "image": "none"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    _kubectl(kubeconfig, "apply", "-f", "-", stdin=json.dumps(pod))
    first = ("pod", "kwok-first", "--namespace=kube-system")
    read = ("get", *first, "-o", "jsonpath={.status.podIP}")
    processes.wait_until(lambda: bool(_kubectl(kubeconfig, *read)), "kwok's first pod has an address", folder, PROGRAM)
    _kubectl(kubeconfig, "delete", *first, "--force", "--grace-period=0", "--wait=true")


def stop(folder: Path, kubeconfig: Path | None = None) -> None:
    """Stop kwok; with a kubeconfig its nodes go too."""
    processes.stop(folder, PROGRAM)
    if kubeconfig is not None:
        _kubectl(kubeconfig, "delete", "nodes", "-l", "type=kwok", "--ignore-not-found")


def make_node(name: str, taints: list[dict[str, Any]]) -> dict[str, Any]:
    """A node that kwok plays; its room is in kwok.yaml."""
    metadata = {
        "name": name,
        "annotations": {ANNOTATION: "fake"},
        "labels": {**NODE_LABEL, "kubernetes.io/os": "linux"},
    }
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"taints": taints} if taints else {}}


def _count_ready(kubeconfig: Path) -> int:
    listed = json.loads(_kubectl(kubeconfig, "get", "nodes", "-l", "type=kwok", "-o", "json"))
    conditions = [each for node in listed["items"] for each in node.get("status", {}).get("conditions", [])]
    return sum(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _kubectl(kubeconfig: Path, *arguments: str, stdin: str | None = None) -> str:
    kubectl = binaries.find("kubectl", binaries.CONTROL_PLANE)
    command = [str(kubectl), f"--kubeconfig={kubeconfig}", *arguments]
    done = subprocess.run(command, input=stdin, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise processes.StartError(f"kubectl {' '.join(arguments)}: {done.stderr}")
    return done.stdout
