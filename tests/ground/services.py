"""What makes Services and their names work: kube-proxy and CoreDNS, once for all nodes since these share a network."""

from __future__ import annotations

import json

from tests.ground import binaries, processes
from tests.ground.controlplane import DNS, PROXY, ControlPlane
from tests.ground.layout import Layout
from tests.ground.network import enter

NAMES = ("kube-proxy", "coredns")


def start_services(layout: Layout, plane: ControlPlane) -> None:
    """Start kube-proxy (nftables) and CoreDNS, unless they run: kube-proxy exits when its settings are rewritten."""
    if all(processes.is_running(plane.folder, name) for name in NAMES):
        return
    programs = binaries.ensure(binaries.KUBERNETES, binaries.COREDNS)
    configuration = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": plane.kubeconfig_for(PROXY)},
        "mode": "nftables",
        "hostnameOverride": "node1",
        "clusterCIDR": str(layout.pods),
        "bindAddress": str(layout.gateway),
        # All pods share one bridge: without it an answer would reach its caller from another address than it called.
        "nftables": {"masqueradeAll": True},
        # The machine's connection tracking is not ours to tune.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
    corefile = (
        f".:53 {{\n bind {layout.gateway}\n errors\n cache 5\n"
        f" kubernetes cluster.local {{\n  kubeconfig {plane.kubeconfig_for(DNS)} ground\n }}\n}}\n"
    )
    (plane.folder / "kube-proxy.json").write_text(json.dumps(configuration, indent=1))
    (plane.folder / "Corefile").write_text(corefile)
    inside = enter(layout)
    proxy = [str(programs["kube-proxy"]), f"--config={plane.folder}/kube-proxy.json"]
    processes.start(plane.folder, "kube-proxy", [*inside, *proxy], {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"})
    dns = [str(programs["coredns"]), "-conf", f"{plane.folder}/Corefile"]
    processes.start(plane.folder, "coredns", [*inside, *dns])


def stop_services(plane: ControlPlane) -> None:
    """Stop both."""
    for name in NAMES:
        processes.stop(plane.folder, name)
