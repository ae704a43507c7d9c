"""One node: a containerd and a kubelet with folders, a cgroup and an address range of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path

from tests.ground import binaries, processes
from tests.ground.controlplane import ControlPlane, node_user
from tests.ground.layout import Layout
from tests.ground.network import CNI_PLUGINS, cni_configuration, enter
from tests.ground.pause_image import PAUSE_IMAGE, write_pause_archive

KUBELET_PORT = 10250
HEALTH_PORT = 10350
CGROUPS = Path("/sys/fs/cgroup")


def start_node(layout: Layout, plane: ControlPlane, node: int) -> None:
    """Start a node's runtime, bring the sandbox image, start its kubelet."""
    folder = layout.node(node)
    folder.mkdir(parents=True, exist_ok=True)
    _start_containerd(layout, node)
    _import_pause(layout, node)
    for root in cgroup_roots():
        _make_cgroup(root / layout.cgroup(node))
    kubelet = binaries.ensure(binaries.KUBERNETES)["kubelet"]
    (folder / "resolv.conf").touch()
    (folder / "kubelet.json").write_text(json.dumps(kubelet_configuration(layout, plane, node), indent=1))
    processes.start(folder, "kubelet", [
        *enter(layout), str(kubelet), f"--config={folder}/kubelet.json", f"--hostname-override=node{node}",
        f"--kubeconfig={plane.kubeconfig_for(node_user(node))}", f"--node-ip={layout.gateway}",
        f"--root-dir={folder}/kubelet", f"--cert-dir={folder}/kubelet-pki",
        f"--node-labels=topology.kubernetes.io/zone=zone{node}",
    ])  # fmt: skip


def stop_kubelet(layout: Layout, node: int) -> None:
    """Stop the kubelet, so that it brings back nothing that is cleared away."""
    processes.stop(layout.node(node), "kubelet")


def stop_containers(layout: Layout, node: int) -> None:
    """End a node's containers and its runtime, also those of a run that was killed."""
    folder = layout.node(node)
    if processes.is_running(folder, "containerd"):
        for task in ctr(layout, node, "tasks", "list", "-q").split():
            subprocess.run(_ctr_command(layout, node, "tasks", "rm", "-f", task), capture_output=True, check=False)
        for container in ctr(layout, node, "containers", "list", "-q").split():
            subprocess.run(_ctr_command(layout, node, "containers", "rm", container), capture_output=True, check=False)
    processes.stop(folder, "containerd")
    for pid in _shims(folder):
        _kill(pid)
    for root in cgroup_roots():
        _remove_cgroup(root / layout.cgroup(node))


def ctr(layout: Layout, node: int, *arguments: str) -> str:
    """Run containerd's client on a node, in the namespace that the kubelet uses."""
    return subprocess.run(_ctr_command(layout, node, *arguments), check=True, capture_output=True, text=True).stdout


def import_stream(layout: Layout, node: int) -> subprocess.Popen[bytes]:
    """Start an image import that reads the archive from its standard input."""
    command = _ctr_command(layout, node, "images", "import", "--local", "-")
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def kubelet_configuration(layout: Layout, plane: ControlPlane, node: int) -> dict[str, object]:
    """Return the kubelet's settings; each unusual one cost somebody a day."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": str(layout.gateway),
        "port": KUBELET_PORT + node - 1,
        "healthzPort": HEALTH_PORT + node - 1,
        "readOnlyPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": plane.credentials.path("ca.crt")},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{layout.node(node)}/containerd.sock",
        "clusterDNS": [str(layout.gateway)],
        "clusterDomain": "cluster.local",
        "resolvConf": str(layout.node(node) / "resolv.conf"),
        "podLogsDir": str(layout.node(node) / "pod-logs"),
        # Containers of this kind of machine: old cgroups, no systemd, and a disk that others fill.
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.cgroup(node)}",
        "enforceNodeAllocatable": [],
        "evictionHard": {"memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "nodeStatusUpdateFrequency": "4s",
        "syncFrequency": "10s",
    }


def containerd_configuration(layout: Layout, node: int) -> str:
    """Return containerd's settings: its own folders, our CNI, our sandbox image, no change of oom_score_adj."""
    folder = layout.node(node)
    return f"""version = 3
root = "{folder}/containerd"
state = "{folder}/containerd-run"
[grpc]
  address = "{folder}/containerd.sock"
[ttrpc]
  address = "{folder}/containerd.sock.ttrpc"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE_IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  enable_cdi = false
  netns_mounts_under_state_dir = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["{CNI_PLUGINS}"]
  conf_dir = "{folder}/cni"
[plugins."io.containerd.nri.v1.nri"]
  disable = true
"""


def cgroup_roots() -> list[Path]:
    """Return every hierarchy's root: one with cgroup v2, one a controller with v1."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]


def _start_containerd(layout: Layout, node: int) -> None:
    folder = layout.node(node)
    programs = binaries.ensure(binaries.CONTAINERD)
    (folder / "cni").mkdir(exist_ok=True)
    (folder / "cni" / "10-pods.conflist").write_text(cni_configuration(layout, node))
    (folder / "containerd.toml").write_text(containerd_configuration(layout, node))
    environment = {"PATH": f"{programs['containerd'].parent}:{os.environ['PATH']}:/usr/sbin:/sbin"}
    command = [*enter(layout), str(programs["containerd"]), "--config", f"{folder}/containerd.toml"]
    processes.start(folder, "containerd", command, environment)
    processes.wait_until(lambda: _answers(layout, node), "containerd answers", folder, "containerd")


def _answers(layout: Layout, node: int) -> bool:
    command = _ctr_command(layout, node, "version")
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _import_pause(layout: Layout, node: int) -> None:
    if PAUSE_IMAGE in ctr(layout, node, "images", "list", "-q").split():
        return
    archive = layout.node(node) / "pause.tar"
    write_pause_archive(binaries.ensure(binaries.PAUSE)["pause"], archive)
    ctr(layout, node, "images", "import", "--local", str(archive))
    archive.unlink()


def _ctr_command(layout: Layout, node: int, *arguments: str) -> list[str]:
    program = binaries.ensure(binaries.CONTAINERD)["ctr"]
    return [str(program), "--address", f"{layout.node(node)}/containerd.sock", "--namespace", "k8s.io", *arguments]


def _make_cgroup(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for setting in ("cpuset.cpus", "cpuset.mems"):  # v1 starts a cpuset empty, and then nothing may join it
        if (folder / setting).exists() and not (folder / setting).read_text().strip():
            (folder / setting).write_text((folder.parent / setting).read_text())
    if (folder / "cgroup.subtree_control").exists():
        available = (folder / "cgroup.controllers").read_text().split()
        (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in available))


def _remove_cgroup(folder: Path) -> None:
    """Kill what is left in a node's own cgroup and remove it with everything below."""
    if not folder.exists():
        return
    nested = sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True)
    for each in (*nested, folder):
        for pid in (each / "cgroup.procs").read_text().split():
            _kill(int(pid))
        for _ in range(50):
            try:
                each.rmdir()
                break
            except OSError:
                processes.pause()


def _shims(folder: Path) -> list[int]:
    """Return the container shims that were started for this node's socket, whoever their parent was."""
    mark = f"{folder}/containerd.sock".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"containerd-shim-runc-v2") and mark in words:
            found.append(int(entry.parent.name))
    return found


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
