"""The programs a Kubernetes is made of, built from Go modules and kept in the cache.

No package registry serves a kube-apiserver, but the Go module proxy serves its source. Every folder under ``go/`` is
one module with its own ``go.sum`` (their dependencies clash); its programs land in a cache folder named by that file's
hash, so that the same versions are built once on a machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.ground.cache import cache_folder, digest_of

KUBERNETES_VERSION = "v1.37.2"
COMPILED = "go-build"
MODULES = Path(__file__).parent / "go"


class MissingToolError(RuntimeError):
    """The machine lacks something that the ground needs; the message names it and the way around."""


@dataclass(frozen=True)
class Group:
    """One Go module under ``go/`` and the programs that it yields: name -> Go package."""

    name: str
    programs: dict[str, str]
    link_flags: str = "-s -w"
    tags: str = ""


def _version_flags() -> str:
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    settings = {"gitVersion": KUBERNETES_VERSION, "gitMajor": major, "gitMinor": minor}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(
        ["-s -w", *(f"-X {package}.{key}={value}" for package in packages for key, value in settings.items())]
    )


def _kubernetes(*names: str) -> dict[str, str]:
    return {name: f"k8s.io/kubernetes/cmd/{name}" for name in names}


CONTROL_PLANE = Group("kubernetes", _kubernetes("kube-apiserver", "kubectl"), _version_flags())
KUBERNETES = Group(
    "kubernetes",
    _kubernetes("kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"),
    _version_flags(),
)
ETCD = Group("runtime", {"etcd": "go.etcd.io/etcd/server/v3"})
CONTAINERD = Group(
    "runtime",
    {
        name: f"github.com/containerd/containerd/v2/cmd/{name}"
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    },
)
COREDNS = Group("coredns", {"coredns": "github.com/coredns/coredns"})
OBJECT_STORE = Group("versitygw", {"versitygw": "github.com/versity/versitygw/cmd/versitygw"})
PAUSE = Group("pause", {"pause": "."})
HELM = Group("helm", {"helm": "helm.sh/helm/v4/cmd/helm"})
KWOK = Group("kwok", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"})
# Debian's Prometheus is built without the discovery of pods; of all discoveries ours has that one.
PROMETHEUS = Group(
    "prometheus",
    {name: f"github.com/prometheus/prometheus/cmd/{name}" for name in ("prometheus", "promtool")},
    tags="remove_all_sd,enable_kubernetes_sd",
)

ALL = (ETCD, CONTROL_PLANE, CONTAINERD, PAUSE, OBJECT_STORE, KUBERNETES, COREDNS, HELM, KWOK, PROMETHEUS)


def ensure(*groups: Group) -> dict[str, Path]:
    """Return the path of every program of ``groups``, building those that the cache lacks."""
    return {name: _ensure_program(group, name, package) for group in groups for name, package in group.programs.items()}


def find(name: str, group: Group) -> Path:
    """Return the path of one program, building it when the cache lacks it."""
    return _ensure_program(group, name, group.programs[name])


def _ensure_program(group: Group, name: str, package: str) -> Path:
    module = MODULES / group.name
    words = [word for word in (group.link_flags, group.tags) if word]
    program = cache_folder("bin") / digest_of([module / "go.sum"], *words) / name
    if program.exists():
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    with _locked():
        if not program.exists():
            _build(module, package, program, group)
    return program


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Let one build at a time run on this machine, also between clones."""
    with (cache_folder("bin") / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(module: Path, package: str, program: Path, group: Group) -> None:
    go = shutil.which("go")
    if go is None:
        raise MissingToolError(
            f"{program.name} is built with Go 1.26 or newer, and there is no `go` on PATH. Install Go, or point "
            "KUBECONFIG at any cluster (kind, k3d, a real one) to run the cluster tests there."
        )
    started = time.monotonic()
    print(f"building {program.name} ({module.name}) ...", file=sys.stderr, flush=True)
    unfinished = program.with_name(f".{program.name}.unfinished")
    command = [go, "build", "-mod=readonly", "-trimpath", f"-tags={group.tags}", f"-ldflags={group.link_flags}"]
    command += ["-o", str(unfinished), package]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOCACHE": str(cache_folder(COMPILED))}
    subprocess.run(command, cwd=module, env=environment, check=True)
    unfinished.rename(program)
    print(f"built {program.name} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def main() -> None:
    """Build everything that the ground can need, then drop the compiler's own cache: it is 7 GB, the programs 1."""
    try:
        ensure(*ALL)
    except MissingToolError as error:
        sys.exit(str(error))
    with _locked():
        shutil.rmtree(cache_folder(COMPILED))


if __name__ == "__main__":
    main()
