"""The cluster's network namespace, with a bridge for pods and one link out to the machine.

Everything runs inside: API server, kubelets, kube-proxy, DNS. So the rules that kube-proxy writes never touch the
machine's own tables, two clones never share any, and deleting the namespace deletes bridge, routes and rules at once.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.ground.layout import Layout

CNI_PLUGINS = Path("/usr/lib/cni")


def enter(layout: Layout) -> tuple[str, ...]:
    """Return the command prefix that runs a program inside; ``ip netns exec`` would hide its mounts."""
    return ("nsenter", f"--net=/run/netns/{layout.namespace}", "--")


def make_network(layout: Layout) -> None:
    """Make the namespace, its bridge and its link, unless they are there."""
    if Path(f"/run/netns/{layout.namespace}").exists():
        look = [*enter(layout), "ip", "link", "show", layout.bridge]
        if subprocess.run(look, capture_output=True, check=False).returncode == 0:
            return
        remove_network(layout)
    outer, inner = f"ft{layout.slot}", f"ft{layout.slot}in"
    inside = [*enter(layout), "ip"]
    _run("ip", "netns", "add", layout.namespace)
    _run("ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", layout.namespace)
    _run("ip", "address", "add", f"{layout.host_end}/30", "dev", outer)
    _run("ip", "link", "set", outer, "up")
    _run(*inside, "link", "set", "lo", "up")
    _run(*inside, "address", "add", f"{layout.inner_end}/30", "dev", inner)
    _run(*inside, "link", "set", inner, "up")
    _run(*inside, "route", "add", "default", "via", str(layout.host_end))
    _run(*inside, "link", "add", layout.bridge, "type", "bridge")
    _run(*inside, "address", "add", f"{layout.gateway}/{layout.pods.prefixlen}", "dev", layout.bridge)
    _run(*inside, "link", "set", layout.bridge, "up")
    _run(*enter(layout), "sysctl", "--quiet", "--write", "net.ipv4.ip_forward=1")
    _run("ip", "route", "replace", str(layout.block), "via", str(layout.inner_end))


def remove_network(layout: Layout) -> None:
    """Delete the namespace and with it everything inside; the link's other end dies with it."""
    for command in (["ip", "link", "delete", f"ft{layout.slot}"], ["ip", "netns", "delete", layout.namespace]):
        subprocess.run(command, capture_output=True, check=False)


def cni_configuration(layout: Layout, node: int) -> str:
    """Return the configuration by which a node's pods get their address and their place on the bridge."""
    first, last = layout.pod_range(node)
    subnet = {
        "subnet": str(layout.pods),
        "rangeStart": str(first),
        "rangeEnd": str(last),
        "gateway": str(layout.gateway),
    }
    bridge = {
        "type": "bridge",
        "bridge": layout.bridge,
        "isGateway": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[subnet]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(layout.node(node) / "ipam"),
        },
    }
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}, indent=1)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
