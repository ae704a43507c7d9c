"""etcd and kube-apiserver, and, for a whole cluster, the controller manager and the scheduler."""

from __future__ import annotations

import socket
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from ssl import create_default_context

from tests.ground import audit, binaries, processes
from tests.ground.certificates import Credentials, make_credentials, write_kubeconfig

ADMIN = "admin"
CONTROLLER_MANAGER = "system:kube-controller-manager"
SCHEDULER = "system:kube-scheduler"
PROXY = "system:kube-proxy"
DNS = "system:coredns"
GROUPS = {ADMIN: "system:masters", CONTROLLER_MANAGER: "", SCHEDULER: "", PROXY: "", DNS: "system:masters"}


def node_user(node: int) -> str:
    """Return the user name that a kubelet signs in with."""
    return f"system:node:node{node}"


@dataclass(frozen=True)
class ControlPlane:
    """Where a control plane listens and keeps its state; ``enter`` is the command prefix into its network namespace."""

    folder: Path
    address: IPv4Address
    services: IPv4Network
    kubeconfig: Path
    port: int = 6443
    etcd_port: int = 2379
    etcd_peer_port: int = 2380
    scheduler_port: int = 10259
    enter: tuple[str, ...] = ()
    max_nodes: int = 0

    @property
    def server(self) -> str:
        """The API server's address."""
        return f"https://{self.address}:{self.port}"

    @property
    def credentials(self) -> Credentials:
        """The keys and tokens, made at the first call."""
        addresses = (self.address, self.services[1], IPv4Address("127.0.0.1"))
        nodes = {node_user(node): "system:nodes" for node in range(1, self.max_nodes + 1)}
        return make_credentials(self.folder / "pki", addresses, GROUPS | nodes)

    def kubeconfig_for(self, user: str) -> str:
        """Write a component's kubeconfig and return its path."""
        path = self.folder / "kubeconfigs" / user.replace(":", "-")
        write_kubeconfig(path, self.server, self.credentials, user)
        return str(path)

    def is_ready(self) -> bool:
        """Ask the API server whether it is ready."""
        context = create_default_context(cafile=self.credentials.path("ca.crt"))
        try:
            with urllib.request.urlopen(f"{self.server}/readyz", context=context, timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as the administrator."""
        kubectl = binaries.find("kubectl", binaries.CONTROL_PLANE)
        command = [str(kubectl), f"--kubeconfig={self.kubeconfig}", *arguments]
        return subprocess.run(command, input=stdin, check=True, capture_output=True, text=True).stdout


def start_api_server(plane: ControlPlane, *, alone: bool) -> None:
    """Start etcd and kube-apiserver; ``alone``: no kubelet and no controllers will follow."""
    programs = binaries.ensure(binaries.ETCD, binaries.CONTROL_PLANE)
    processes.start(plane.folder, "etcd", [*plane.enter, *_etcd(plane, programs["etcd"])])
    arguments = _api_server(plane, programs["kube-apiserver"], alone=alone)
    processes.start(plane.folder, "kube-apiserver", [*plane.enter, *arguments])
    processes.wait_until(plane.is_ready, "the API server is ready", plane.folder, "kube-apiserver")
    write_kubeconfig(plane.kubeconfig, plane.server, plane.credentials, ADMIN)


def start_controllers(plane: ControlPlane) -> None:
    """Start the controller manager and the scheduler."""
    programs = binaries.ensure(binaries.KUBERNETES)
    manager = plane.kubeconfig_for(CONTROLLER_MANAGER)
    credentials = plane.credentials
    processes.start(plane.folder, "kube-controller-manager", [
        *plane.enter, str(programs["kube-controller-manager"]), f"--kubeconfig={manager}", "--leader-elect=false",
        f"--authentication-kubeconfig={manager}", f"--authorization-kubeconfig={manager}",
        "--use-service-account-credentials=true", "--node-monitor-grace-period=16s", "--node-monitor-period=2s",
        f"--root-ca-file={credentials.path('ca.crt')}", f"--cert-dir={plane.folder}/kcm",
        f"--service-account-private-key-file={credentials.path('service-account.key')}",
    ])  # fmt: skip
    start_scheduler(plane)


def start_scheduler(plane: ControlPlane, *, speed: int = 50) -> None:
    """Start the scheduler alone; ``speed``: requests a second that it may make."""
    program, scheduler = binaries.find("kube-scheduler", binaries.KUBERNETES), plane.kubeconfig_for(SCHEDULER)
    processes.start(plane.folder, "kube-scheduler", [
        *plane.enter, str(program), f"--kubeconfig={scheduler}", "--leader-elect=false",
        f"--authentication-kubeconfig={scheduler}", f"--authorization-kubeconfig={scheduler}",
        f"--cert-dir={plane.folder}/scheduler", f"--kube-api-qps={speed}", f"--kube-api-burst={2 * speed}",
        f"--secure-port={plane.scheduler_port}",
    ])  # fmt: skip


def stop_control_plane(plane: ControlPlane) -> None:
    """Stop whatever of the control plane runs, the store last."""
    for name in ("kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd"):
        processes.stop(plane.folder, name)


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _etcd(plane: ControlPlane, program: Path) -> list[str]:
    client = f"http://127.0.0.1:{plane.etcd_port}"
    peer = f"http://127.0.0.1:{plane.etcd_peer_port}"
    return [
        str(program), "--name=ground", f"--data-dir={plane.folder}/etcd", "--unsafe-no-fsync",
        f"--listen-client-urls={client}", f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=ground={peer}", "--log-level=warn",
    ]  # fmt: skip


def _api_server(plane: ControlPlane, program: Path, *, alone: bool) -> list[str]:
    credentials = plane.credentials
    # Without a controller manager no service account is ever made, and no pod could be created.
    mode = ["--endpoint-reconciler-type=none", "--disable-admission-plugins=ServiceAccount"] if alone else []
    return [
        str(program), f"--etcd-servers=http://127.0.0.1:{plane.etcd_port}", f"--cert-dir={plane.folder}/apiserver",
        f"--bind-address={plane.address}", f"--advertise-address={plane.address}", f"--secure-port={plane.port}",
        f"--service-cluster-ip-range={plane.services}", "--allow-privileged=true",
        "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", *mode,
        f"--token-auth-file={credentials.path('tokens.csv')}", f"--client-ca-file={credentials.path('ca.crt')}",
        f"--tls-cert-file={credentials.path('apiserver.crt')}",
        f"--tls-private-key-file={credentials.path('apiserver.key')}",
        f"--kubelet-client-certificate={credentials.path('kubelet-client.crt')}",
        f"--kubelet-client-key={credentials.path('kubelet-client.key')}",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={credentials.path('service-account.key')}",
        f"--service-account-signing-key-file={credentials.path('service-account.key')}",
        *audit.arguments(plane.folder),
    ]  # fmt: skip
