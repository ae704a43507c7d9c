"""Only etcd and kube-apiserver on 127.0.0.1, for tests of what the API server says: seconds, no root, no nodes.

As without a controller manager: a deleted namespace stays Terminating, owner references collect nothing, and pods
are created (no service account is asked for) but never run.
"""

from __future__ import annotations

import os
import shutil
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from tests.ground import processes
from tests.ground.cache import REPOSITORY
from tests.ground.controlplane import ControlPlane, free_ports, start_api_server, stop_control_plane

SERVICES = IPv4Network("10.96.0.0/16")


def session_folder(purpose: str = "") -> Path:
    """Return a state folder for this process alone (and for a purpose, e.g. ``chart-``): no test runs share one."""
    return REPOSITORY / ".cluster" / f"api-{purpose}{os.getpid()}"


def start_alone(folder: Path) -> ControlPlane:
    """Start a control plane on free ports."""
    stop_orphans(folder.parent)
    port, etcd_port, etcd_peer_port, scheduler_port = free_ports(4)
    plane = ControlPlane(
        folder=folder,
        address=IPv4Address("127.0.0.1"),
        services=SERVICES,
        kubeconfig=folder / "kubeconfig",
        port=port,
        etcd_port=etcd_port,
        etcd_peer_port=etcd_peer_port,
        scheduler_port=scheduler_port,
    )
    start_api_server(plane, alone=True)
    return plane


def stop_alone(folder: Path) -> None:
    """Stop the control plane in ``folder``, and kwok where it plays the nodes, and drop its state."""
    processes.stop(folder, "kwok")
    stop_control_plane(_stopped(folder))
    shutil.rmtree(folder, ignore_errors=True)


def stop_orphans(parent: Path) -> None:
    """Stop what test runs that were killed left running."""
    for folder in parent.glob("api-*"):
        if not Path(f"/proc/{folder.name.rpartition('-')[2]}").exists():
            stop_alone(folder)


def _stopped(folder: Path) -> ControlPlane:
    """Describe a control plane well enough to stop it."""
    return ControlPlane(folder, IPv4Address("127.0.0.1"), SERVICES, folder / "kubeconfig")
