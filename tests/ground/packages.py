"""The system packages that the ground needs, installed where that is possible: Debian, as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

# What proves that a package is there -> the package.
NEEDED = {
    "runc": "runc",
    "nft": "nftables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "sysctl": "procps",
    "openssl": "openssl",
    "buildah": "buildah",
    "skopeo": "skopeo",
    "debootstrap": "debootstrap",
    "promtool": "prometheus",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}
SYSTEM_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def missing() -> list[str]:
    """Return the packages that are not there."""
    return [package for proof, package in NEEDED.items() if not _is_there(proof)]


def install() -> None:
    """Install what is missing where apt-get may; say what is missing elsewhere."""
    names = missing()
    if not names:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"not installed: {' '.join(names)}. The cluster tests need these, or a KUBECONFIG.", file=sys.stderr)
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Prometheus would bring an exporter of the machine's own figures along.
    exclusions = ["prometheus-node-exporter-"] if "prometheus" in names else []
    for command in (["update", "-qq"], ["install", "-y", "-qq", *names, *exclusions]):
        subprocess.run(["apt-get", *command], check=True, env=environment, stdout=subprocess.DEVNULL)


def _is_there(proof: str) -> bool:
    return Path(proof).exists() if proof.startswith("/") else shutil.which(proof, path=SYSTEM_PATH) is not None


if __name__ == "__main__":
    install()
