"""Images built without an engine: buildah, on a base made by debootstrap.

For a machine that reaches package mirrors but no image registry. Storage and layer cache live in the project's cache
folder. The Dockerfile is the one that docker takes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.ground.binaries import MissingToolError
from tests.ground.cache import REPOSITORY, cache_folder, digest_of

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
BASE_PACKAGES = "python3,python3-venv,ca-certificates"
TOOLS = ("buildah", "debootstrap", "runc", "skopeo")
RUN_ROOT = "/run/finetune-ground/buildah"


class BuildError(RuntimeError):
    """An image could not be built; the message holds the end of what the builder said."""


class Buildah:
    """Builds without an engine; its storage and its layer cache live in the project's cache folder."""

    def __init__(self) -> None:
        missing = [tool for tool in TOOLS if shutil.which(tool) is None]
        if missing or os.geteuid() != 0:
            raise MissingToolError(
                "Images are built by docker or podman, or, as root on Debian, by buildah: "
                f"apt-get install {' '.join(TOOLS)} (missing: {', '.join(missing) or 'root'})"
            )
        self.folder = cache_folder("images")
        self.storage = self.folder / "storage"
        storage = ("--root", str(self.storage), "--runroot", RUN_ROOT)
        self.command = ("buildah", "--storage-driver", "overlay", *storage)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Let one build at a time touch the storage, also between clones."""
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def build(self, target: str, name: str, digest: str) -> None:
        """Build one target under its name; nothing if the last build had inputs of the same ``digest``."""
        built = self.folder / f"{target}.inputs"
        if built.exists() and built.read_text() == digest and self._exists(name):
            return
        print(f"building {name} ...", file=sys.stderr, flush=True)
        base = self._ensure_base()
        trust = ["--volume", "/etc/ssl/certs:/etc/ssl/certs:ro", "--build-arg", "UV_SYSTEM_CERTS=1"]
        trust += [word for key in ("SSL_CERT_FILE", "PIP_CERT") for word in ("--build-arg", f"{key}={CERTIFICATES}")]
        self._run(
            "build", "--layers", "--isolation", "oci", "--runtime", shutil.which("runc") or "runc", "--network", "host",
            *(trust if CERTIFICATES.exists() else []), "--build-arg", f"BASE_IMAGE={base}", "--pull-never",
            "--target", target, "--tag", name, str(REPOSITORY),
        )  # fmt: skip
        built.write_text(digest)
        shutil.rmtree(self.folder / "tmp")  # packages in the build's cache: another copy of what the layer holds

    def copy_to(self, layout: Path, name: str, tag: str) -> None:
        """Copy an image into an OCI layout folder, uncompressed, writing only the layers that the folder lacks."""
        source = f"containers-storage:[overlay@{self.storage}+{RUN_ROOT}]{name}"
        copy = ("skopeo", "copy", "--quiet", "--insecure-policy", "--dest-oci-accept-uncompressed-layers")
        subprocess.run([*copy, source, f"oci:{layout}:{tag}"], check=True)

    def _exists(self, name: str) -> bool:
        return subprocess.run([*self.command, "inspect", name], capture_output=True, check=False).returncode == 0

    def _ensure_base(self) -> str:
        name = f"localhost/finetune-base:{digest_of([], BASE_PACKAGES)}"
        if self._exists(name):
            return name
        root = self.folder / "base"
        shutil.rmtree(root, ignore_errors=True)
        bootstrap = ["debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", "bookworm", str(root)]
        subprocess.run([*bootstrap, *_debian_mirror()], check=True, stdout=subprocess.DEVNULL)
        for leftover in ("var/cache/apt/archives", "var/lib/apt/lists", "var/log"):
            shutil.rmtree(root / leftover, ignore_errors=True)
        container = self._run("from", "scratch")
        self._run("add", container, str(root), "/")
        self._run("commit", "--quiet", "--rm", container, name)
        shutil.rmtree(root)
        return name

    def _run(self, *arguments: str) -> str:
        """Run buildah; what it says on the way is shown only when it fails."""
        environment = {**os.environ, "TMPDIR": str(cache_folder("images/tmp"))}
        command = [*self.command, *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        if done.returncode != 0:
            raise BuildError(f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        return done.stdout.strip()


def _debian_mirror() -> list[str]:
    """Return the mirror that this machine itself uses, if it says so."""
    for file in (*Path("/etc/apt/sources.list.d").glob("*.sources"), Path("/etc/apt/sources.list")):
        if file.exists() and (
            found := re.search(r"^(?:URIs:|deb(?: \[.*?\])?) *(\S+)", file.read_text(), re.MULTILINE)
        ):
            return [found.group(1)]
    return []
