"""Install the chart into the cluster with helm: the built one, or the machine's own."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.ground import binaries
from tests.ground.cache import REPOSITORY
from tests.ground.foreign import foreign_kubeconfig
from tests.ground.processes import StartError

CHART = REPOSITORY / "charts" / "finetune-operator"
RELEASE = "finetune-operator"


def helm() -> Path:
    """Return helm's path."""
    own = shutil.which("helm")
    return Path(own) if own else binaries.find("helm", binaries.HELM)


def install(namespace: str, settings: Sequence[str] = ()) -> None:
    """Install or upgrade the release and wait until it is ready."""
    kubeconfig = foreign_kubeconfig() or REPOSITORY / ".cluster" / "kubeconfig"
    command = [str(helm()), "upgrade", "--install", RELEASE, str(CHART), "--namespace", namespace, "--create-namespace"]
    command += [
        "--reset-values",
        "--wait",
        "--timeout",
        "180s",
        *(word for setting in settings for word in ("--set", setting)),
    ]
    done = subprocess.run(command, check=False, env={**os.environ, "KUBECONFIG": str(kubeconfig)})
    if done.returncode != 0:
        raise StartError(f"the chart is not up; `kubectl --namespace {namespace} logs deploy/{RELEASE}` may say why")


def main() -> None:
    """Install from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", default="finetune-system")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    arguments = parser.parse_args()
    try:
        install(arguments.namespace, arguments.settings)
    except (binaries.MissingToolError, StartError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
