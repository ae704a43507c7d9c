"""Nodes that stop answering: their kubelet, and the network of a pod on them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.ground import cluster, processes
from tests.ground.layout import Layout
from tests.ground.network import enter
from tests.ground.node import start_node


@contextmanager
def silent_kubelet(layout: Layout, node: int) -> Iterator[None]:
    """A node whose kubelet is gone, while its containers run on; it comes back afterwards."""
    processes.stop(layout.node(node), "kubelet")
    try:
        yield
    finally:
        start_node(layout, cluster.control_plane_of(layout), node)


@contextmanager
def cut_network(layout: Layout, pid: int) -> Iterator[None]:
    """A pod whose network is cut, named by one of its processes; it is mended afterwards."""
    link = _find_link(layout, pid)
    command = [*enter(layout), "ip", "link", "set", link]
    subprocess.run([*command, "down"], check=True)
    try:
        yield
    finally:
        subprocess.run([*command, "up"], check=False)  # a pod that was removed meanwhile took it along


def _find_link(layout: Layout, pid: int) -> str:
    """Name of the bridge's end of a pod's link."""
    inside = _run("nsenter", "--target", str(pid), "--net", "ip", "-o", "link", "show", "eth0")
    found = re.search(r"eth0@if(\d+):", inside)
    assert found is not None, inside
    for line in _run(*enter(layout), "ip", "-o", "link", "show").splitlines():
        number, name = line.split(": ")[:2]
        if number == found[1]:
            return name.split("@")[0]
    raise AssertionError(f"no link has the number {found[1]}")


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
