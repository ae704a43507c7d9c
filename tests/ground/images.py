"""The operator's and the trainer's image: built when their inputs changed, and brought into the cluster's nodes.

Where there is docker or podman, they build, and kind or k3d load the result. For the cluster of this clone buildah
builds, and ``nodeimages`` brings the images in.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
import tomllib

from tests.ground.binaries import MissingToolError
from tests.ground.buildah import BASE_PACKAGES, Buildah, BuildError
from tests.ground.cache import REPOSITORY, digest_of
from tests.ground.cluster import is_up, running_nodes
from tests.ground.foreign import foreign_kubeconfig
from tests.ground.layout import current_layout
from tests.ground.nodeimages import deliver
from tests.ground.processes import StartError

TARGETS = ("operator", "trainer")


def image_name(target: str) -> str:
    """Return the image's name as the chart and the tests write it."""
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    return f"ghcr.io/finetune-operator/{target}:{version}"


def input_digest(target: str) -> str:
    """Name everything that an image is made of."""
    sources = [REPOSITORY / name for name in ("crds", "operator", "trainer", "Dockerfile", ".dockerignore")]
    files = [REPOSITORY / "requirements" / f"{target}.txt", *(REPOSITORY / n for n in ("pyproject.toml", "README.md"))]
    return digest_of([*sources, *files], target, BASE_PACKAGES)


def bring(targets: tuple[str, ...] = TARGETS, nodes: list[int] | None = None) -> dict[str, str]:
    """Build ``targets`` and bring them into the cluster (by default into all its nodes); return their names."""
    names = {target: image_name(target) for target in targets}
    if foreign_kubeconfig() is not None:
        _bring_to_foreign(names)
        return names
    layout = current_layout()
    if layout is None or not is_up(layout):
        raise MissingToolError("No cluster of this clone is up: `make cluster` first.")
    builder = Buildah()
    with builder.locked():
        for target, name in names.items():
            builder.build(target, name, input_digest(target))
            for node in nodes or running_nodes(layout):
                deliver(builder, layout, node, name, target)
    return names


def _bring_to_foreign(names: dict[str, str]) -> None:
    """Build with the machine's engine and load the images where the cluster's maker has a command for it."""
    engine = next((tool for tool in ("docker", "podman") if shutil.which(tool)), None)
    if engine is None:
        raise MissingToolError("KUBECONFIG points at a cluster of yours: its images are built by docker or podman.")
    context = json.loads(_output("kubectl", "config", "view", "--output=json"))["current-context"]
    for target, name in names.items():
        build = [engine, "build", "--target", target, "--tag", name, str(REPOSITORY)]
        subprocess.run(build, check=True)
        if context.startswith("kind-"):
            subprocess.run(["kind", "load", "docker-image", name, "--name", context.removeprefix("kind-")], check=True)
        elif context.startswith("k3d-"):
            subprocess.run(["k3d", "image", "import", name, "--cluster", context.removeprefix("k3d-")], check=True)
        else:
            print(f"{name} is built; the cluster {context} must be able to pull it", file=sys.stderr)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Build and bring the images that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS], default=[])
    parser.add_argument("--node", type=int, action="append", help="only into this node")
    arguments = parser.parse_args()
    started = time.monotonic()
    try:
        names = bring(tuple(arguments.targets) or TARGETS, arguments.node)
    except (MissingToolError, BuildError, StartError) as error:
        sys.exit(str(error))
    for name in names.values():
        print(name)
    print(f"images are in place ({time.monotonic() - started:.0f} s)", file=sys.stderr)


if __name__ == "__main__":
    main()
