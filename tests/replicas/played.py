"""Nodes, kubelets and agents that are played beside the real ones of this clone's cluster.

The operator's pods reach the agents as they reach any pod: by an address of their own, which leads into the cluster's
network namespace, where one process answers for all of them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from finetune_contract import names
from tests.ground import kwok, processes
from tests.ground.layout import Layout
from tests.ground.network import enter
from tests.scale.world import AGENTS, make_job, start_agents

ADDRESSES = "100.64.0.0/16"
"""Of the played pods: set aside for networks behind an address translation (RFC 6598), and known in there only."""
PLAYED: dict[str, Any] = {"nodeSelector": kwok.NODE_LABEL, "tolerations": [kwok.TOLERATION]}


@contextmanager
def play_nodes(layout: Layout, kubeconfig: Path, count: int = 4) -> Iterator[None]:
    """So many nodes; what runs on them ends with them."""
    inside, folder = enter(layout), layout.state / "played"
    route = ("local", ADDRESSES, "dev", "lo")
    with ExitStack() as stack:
        subprocess.run([*inside, "ip", "route", "replace", *route], check=True)
        stack.callback(subprocess.run, [*inside, "ip", "route", "delete", *route], check=False)
        stack.callback(kwok.stop, folder, kubeconfig)
        kwok.start(folder, kubeconfig, nodes=count, cidr=ADDRESSES, beside_real_nodes=True, prefix=inside)
        stack.callback(processes.stop, folder, AGENTS)
        start_agents(folder, kubeconfig, names.AGENT_PORT, prefix=inside)
        yield


def make_played_job(name: str, namespace: str, script: str) -> dict[str, Any]:
    """A job of two nodes that only played ones take."""
    job = make_job(name, script, nodes=2, gpus=0)
    job["metadata"]["namespace"] = namespace
    job["spec"]["pod"] |= PLAYED
    return job
