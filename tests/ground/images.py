"""The operator's and the trainer's image: built when their inputs changed, and brought into the cluster's nodes.

Where there is docker or podman, they build. Otherwise buildah does, on a base image made by debootstrap, because this
machine may reach package mirrors but no image registry.

Bringing an image to a node copies only what the node lacks. A tag is pushed into one OCI layout folder in the cache,
which writes only the layers that the folder has not got; from there a tar stream with the layers that the node's
containerd has not got goes into ``ctr images import``. Afterwards the large layers are emptied (a sparse file of the
same size keeps the place, so that the next push skips them): a code change moves kilobytes and no archive stays.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.ground.binaries import MissingToolError
from tests.ground.cache import REPOSITORY, cache_folder, digest_of

TARGETS = ("operator", "trainer")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
BASE_PACKAGES = "python3,python3-venv,ca-certificates"
LARGE_LAYER_BYTES = 8 * 2**20


def image_name(target: str) -> str:
    """Return the image's name as the chart and the tests write it."""
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    return f"ghcr.io/finetune-operator/{target}:{version}"


def input_digest(target: str) -> str:
    """Name everything that an image is made of."""
    sources = [REPOSITORY / name for name in ("crds", "operator", "trainer", "Dockerfile", ".dockerignore")]
    files = [REPOSITORY / "requirements" / f"{target}.txt", *(REPOSITORY / n for n in ("pyproject.toml", "README.md"))]
    return digest_of([*sources, *files], target, BASE_PACKAGES)


class Buildah:
    """Builds without an engine; its storage and its layer cache live in the project's cache folder."""

    def __init__(self) -> None:
        missing = [tool for tool in ("buildah", "debootstrap", "runc") if shutil.which(tool) is None]
        if missing or os.geteuid() != 0:
            raise MissingToolError(
                "Images are built by docker or podman, or, as root on Debian, by buildah: "
                f"apt-get install buildah debootstrap runc (missing: {', '.join(missing) or 'root'})"
            )
        self.folder = cache_folder("images")
        self.layout = self.folder / "layout"
        storage = ("--root", str(self.folder / "storage"), "--runroot", "/run/finetune-ground/buildah")
        self.command = ("buildah", "--storage-driver", "overlay", *storage)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Let one build at a time touch the storage, also between clones."""
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def build(self, target: str) -> None:
        """Build one target under its name, labelled with the digest of its inputs; nothing if that is what is there."""
        name, digest = image_name(target), input_digest(target)
        if self._label(name) == digest:
            return
        base = self._ensure_base()
        trust = ["--volume", "/etc/ssl/certs:/etc/ssl/certs:ro", "--build-arg", "UV_SYSTEM_CERTS=1"]
        trust += [word for key in ("SSL_CERT_FILE", "PIP_CERT") for word in ("--build-arg", f"{key}={CERTIFICATES}")]
        self._run(
            "build", "--layers", "--isolation", "oci", "--runtime", shutil.which("runc") or "runc", "--network", "host",
            *(trust if CERTIFICATES.exists() else []), "--build-arg", f"BASE_IMAGE={base}", "--pull-never",
            "--label", f"finetune.dev/inputs={digest}", "--target", target, "--tag", name, str(REPOSITORY),
        )  # fmt: skip

    def _label(self, name: str) -> str:
        template = '{{index .OCIv1.Config.Labels "finetune.dev/inputs"}}'
        command = [*self.command, "inspect", "--type", "image", "--format", template, name]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        return found.stdout.strip() if found.returncode == 0 else ""

    def _ensure_base(self) -> str:
        name = f"localhost/finetune-base:{digest_of([], BASE_PACKAGES)}"
        if subprocess.run([*self.command, "inspect", name], capture_output=True, check=False).returncode == 0:
            return name
        root = self.folder / "base"
        shutil.rmtree(root, ignore_errors=True)
        bootstrap = ["debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", "bookworm", str(root)]
        subprocess.run([*bootstrap, *_debian_mirror()], check=True, stdout=subprocess.DEVNULL)
        for leftover in ("var/cache/apt/archives", "var/lib/apt/lists", "var/log"):
            shutil.rmtree(root / leftover, ignore_errors=True)
        container = self._run("from", "scratch", capture=True)
        self._run("add", container, f"{root}", "/")
        self._run("commit", "--quiet", "--rm", container, name)
        shutil.rmtree(root)
        return name

    def _run(self, *arguments: str, capture: bool = False) -> str:
        environment = {**os.environ, "TMPDIR": str(cache_folder("images/tmp"))}
        output = subprocess.PIPE if capture else sys.stderr
        done = subprocess.run([*self.command, *arguments], check=True, stdout=output, text=True, env=environment)
        return (done.stdout or "").strip()


def _debian_mirror() -> list[str]:
    """Return the mirror that this machine itself uses, if it says so."""
    for file in (*Path("/etc/apt/sources.list.d").glob("*.sources"), Path("/etc/apt/sources.list")):
        if file.exists() and (
            found := re.search(r"^(?:URIs:|deb(?: \[.*?\])?) *(\S+)", file.read_text(), re.MULTILINE)
        ):
            return [found.group(1)]
    return []
