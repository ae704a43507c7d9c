"""A real Kubernetes on this machine, for tests and for a person: ``python3 -m tests.ground.cluster up``.

``up`` does nothing where the cluster runs, and clears away what a killed run left behind. ``down`` leaves no process,
mount, namespace or cgroup; the nodes' image stores stay below ``.cluster/``, so that the next ``up`` is warm
(``down --purge`` removes these too).
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.ground import node as nodes
from tests.ground import packages, processes
from tests.ground.apiserver import session_folder, start_alone, stop_alone, stop_orphans
from tests.ground.binaries import MissingToolError
from tests.ground.cache import REPOSITORY
from tests.ground.controlplane import ControlPlane, start_api_server, start_controllers, stop_control_plane
from tests.ground.foreign import foreign_kubeconfig
from tests.ground.layout import MAX_NODES, Layout, claim_slot, current_layout
from tests.ground.network import CNI_PLUGINS, enter, make_network, remove_network
from tests.ground.services import NAMES, start_services, stop_services

TOOLS = ("runc", "nft", "conntrack", "ip", "nsenter", "openssl", "sysctl", "mount")
READY_SECONDS = 90
UNMOUNT_TRIES = 100


def up(node_count: int | None = None) -> Path:
    """Bring the cluster up with at least ``node_count`` nodes and return its kubeconfig's path."""
    missing = missing_for_cluster()
    if missing:
        raise MissingToolError(missing)
    with _locked():
        layout = claim_slot()
        plane = control_plane_of(layout)
        count = max(node_count or 1, len(running_nodes(layout)))
        if is_up(layout) and len(running_nodes(layout)) >= count:
            return layout.kubeconfig
        if not is_up(layout):
            _clear(layout)
        _bind_run_folder(layout)
        make_network(layout)
        start_api_server(plane, alone=False)
        start_controllers(plane)
        for number in range(1, count + 1):
            nodes.start_node(layout, plane, number)
        start_services(layout, plane)
        _wait_until_ready(plane, layout, count)
        return layout.kubeconfig


def down(*, purge: bool = False) -> None:
    """Take the cluster of this clone down and leave nothing of it but, without ``purge``, its images."""
    with _locked():
        layout = current_layout()
        if layout is not None:
            _clear(layout)
            layout.owner_file.unlink(missing_ok=True)
        processes.stop(REPOSITORY / ".cluster" / "objectstore" / "local", "versitygw")
        stop_orphans(REPOSITORY / ".cluster")
        for folder in (REPOSITORY / ".cluster").glob("node*" if purge else "none"):
            shutil.rmtree(folder)


def is_up(layout: Layout | None) -> bool:
    """Say whether every part of the cluster runs."""
    if layout is None:
        return False
    plane = control_plane_of(layout)
    parts = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", *NAMES)
    return bool(running_nodes(layout)) and all(processes.is_running(plane.folder, part) for part in parts)


def running_nodes(layout: Layout) -> list[int]:
    """Return the numbers of the nodes whose kubelet runs."""
    return [number for number in range(1, MAX_NODES + 1) if processes.is_running(layout.node(number), "kubelet")]


def control_plane_of(layout: Layout) -> ControlPlane:
    """Return where this cluster's control plane lives."""
    return ControlPlane(
        folder=layout.run / "control-plane",
        address=layout.gateway,
        services=layout.services,
        kubeconfig=layout.kubeconfig,
        enter=enter(layout),
        max_nodes=MAX_NODES,
    )


def missing_for_cluster() -> str:
    """Say what this machine lacks for a cluster of its own, or nothing."""
    needs = [tool for tool in TOOLS if shutil.which(tool, path=packages.SYSTEM_PATH) is None]
    needs += [] if os.geteuid() == 0 else ["root"]
    needs += [] if (CNI_PLUGINS / "bridge").exists() else [str(CNI_PLUGINS)]
    needs += [] if shutil.which("go") else ["Go 1.26"]
    if not needs:
        return ""
    return (
        f"A cluster on this machine needs {', '.join(needs)} (`python3 -m tests.ground.packages` as root installs what "
        "Debian has). Any other cluster serves as well: point KUBECONFIG at kind, k3d or a real one."
    )


def _clear(layout: Layout) -> None:
    """Stop and remove everything that the layout names, whether it ran well or was killed half-way."""
    plane = control_plane_of(layout)
    present = [number for number in range(1, MAX_NODES + 1) if layout.node(number).exists()]
    for number in present:
        nodes.stop_kubelet(layout, number)
    processes.stop(layout.state / "objectstore" / "cluster", "versitygw")
    for folder in (layout.state / "prometheus").glob("*"):
        processes.stop(folder, "prometheus")
    stop_services(plane)
    stop_control_plane(plane)
    for number in present:
        nodes.stop_containers(layout, number)
    _unmount_below(layout.run)
    remove_network(layout)
    services = [layout.state / name for name in ("control-plane", "objectstore", "prometheus")]
    gone = [*services, layout.kubeconfig]
    for path in (*layout.state.glob("node*/*"), *gone):
        if path.name != "containerd":
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if layout.run.exists():
        _unbind_run_folder(layout.run)


def _bind_run_folder(layout: Layout) -> None:
    """Show the state folder under its short path, as a mount whose own mounts reach nowhere else."""
    if layout.run in _mounts():
        return
    for folder in (layout.state, layout.run):
        folder.mkdir(parents=True, exist_ok=True)
    for arguments in (["--bind", str(layout.state)], ["--make-private"], ["--make-shared"]):
        subprocess.run(["mount", *arguments, str(layout.run)], check=True)


def _unbind_run_folder(folder: Path) -> None:
    """Unmount the short path; what was killed a moment ago may still hold it."""
    for _ in range(UNMOUNT_TRIES):
        if folder not in _mounts():
            break
        subprocess.run(["umount", str(folder)], capture_output=True, check=False)
        processes.pause()
    if folder in _mounts():
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


def _unmount_below(folder: Path) -> None:
    for mount in sorted((each for each in _mounts() if folder in each.parents), reverse=True):
        subprocess.run(["umount", "--lazy", str(mount)], capture_output=True, check=False)


def _mounts() -> list[Path]:
    """Return all mount points; ``os.path.ismount`` overlooks a bind mount within one file system."""
    return [Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def _wait_until_ready(plane: ControlPlane, layout: Layout, count: int) -> None:
    """Wait for the nodes, and for the service account that every pod needs."""
    deadline = time.monotonic() + READY_SECONDS
    wanted = [f"node/node{number}" for number in range(1, count + 1)]
    checks = [
        ["wait", "--for=condition=Ready", "--timeout=5s", *wanted],
        ["get", "serviceaccount", "default", "--namespace=default"],
    ]
    for check in checks:
        while True:
            try:
                plane.kubectl(*check)
                break
            except subprocess.CalledProcessError as error:
                if time.monotonic() > deadline:
                    logs = processes.log_end(layout.node(count), "kubelet")
                    raise processes.StartError(f"{error.stderr.strip()}\nThe kubelet's log ends:\n{logs}") from error
                processes.pause()


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Let one ``up`` or ``down`` of this clone run at a time."""
    state = REPOSITORY / ".cluster"
    state.mkdir(exist_ok=True)
    with (state / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def print_status() -> None:
    """Print what runs, and how to reach it."""
    layout = current_layout()
    if layout is None or not is_up(layout):
        print("no cluster of this clone is up")
        return
    print(f"export KUBECONFIG={layout.kubeconfig}")
    print(control_plane_of(layout).kubectl("get", "nodes", "--output=wide"), end="")


def run_api_server() -> None:
    """Run an API server without controllers and nodes until somebody interrupts."""
    folder = session_folder()
    try:
        print(f"export KUBECONFIG={start_alone(folder).kubeconfig}", flush=True)
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        stop_alone(folder)


def main() -> None:
    """Run one command of the cluster's life."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="start the cluster")
    start.add_argument("--nodes", type=int, choices=range(1, MAX_NODES + 1), default=None)
    stop = commands.add_parser("down", help="stop it and clear everything away")
    stop.add_argument("--purge", action="store_true", help="remove the nodes' images too")
    commands.add_parser("status", help="say what runs")
    commands.add_parser("api", help="only etcd and kube-apiserver, until interrupted")
    arguments = parser.parse_args()
    own = foreign_kubeconfig()
    if own is not None and arguments.command != "down":
        print(f"KUBECONFIG={own} is used; no cluster is made here")
        return
    try:
        if arguments.command == "up":
            started = time.monotonic()
            up(arguments.nodes)
            print(f"the cluster is up ({time.monotonic() - started:.0f} s)", file=sys.stderr)
        elif arguments.command == "down":
            down(purge=arguments.purge)
        elif arguments.command == "api":
            run_api_server()
            return
        print_status()
    except (MissingToolError, processes.StartError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
