"""The chart as helm renders it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.ground import binaries

CHART = Path(__file__).parents[2] / "charts" / "finetune-operator"
NAMESPACE = "finetune-system"

Object = dict[str, Any]


@dataclass(frozen=True)
class Rendered:
    """The objects of one release."""

    objects: tuple[Object, ...]

    def __iter__(self) -> Iterator[Object]:
        return iter(self.objects)

    def of_kind(self, kind: str) -> list[Object]:
        """All objects of a kind, in the order of their namespaces."""
        found = [each for each in self.objects if each["kind"] == kind]
        return sorted(found, key=lambda each: (each["metadata"].get("namespace", ""), each["metadata"]["name"]))

    def one(self, kind: str, name: str) -> Object:
        """The one object of that kind and name."""
        (found,) = [each for each in self.of_kind(kind) if each["metadata"]["name"] == name]
        return found

    @property
    def pod(self) -> Object:
        """The operator's pod."""
        pod: Object = self.one("Deployment", "finetune-operator")["spec"]["template"]["spec"]
        return pod

    @property
    def container(self) -> Object:
        """The operator's container."""
        (container,) = self.pod["containers"]
        return dict(container)

    @property
    def environment(self) -> dict[str, str]:
        """The operator's environment, as far as it is written out."""
        return {each["name"]: each["value"] for each in self.container["env"] if "value" in each}


def run_helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run helm on the chart."""
    helm = binaries.find("helm", binaries.HELM)
    return subprocess.run([str(helm), *arguments], capture_output=True, text=True, check=False)


def render(*settings: str) -> Rendered:
    """What is installed with `--set` arguments such as watch.namespaces={a,b}."""
    return Rendered(tuple(each for each in _objects(*settings) if not _is_hook(each)))


def render_test(*settings: str) -> Rendered:
    """What `helm test` makes."""
    return Rendered(tuple(each for each in _objects(*settings) if _is_hook(each)))


def _objects(*settings: str) -> list[Object]:
    return [each for each in yaml.safe_load_all(template(*settings)) if each]


def _is_hook(each: Object) -> bool:
    return "helm.sh/hook" in each["metadata"].get("annotations", {})


@cache
def template(*settings: str) -> str:
    """What `helm template` prints with these `--set` arguments."""
    done = _template(*settings)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refuse(*settings: str) -> str:
    """Why helm refuses these values."""
    done = _template(*settings)
    assert done.returncode != 0, f"accepted: {settings}"
    return done.stderr


def _template(*settings: str) -> subprocess.CompletedProcess[str]:
    sets = [part for setting in settings for part in ("--set", setting)]
    return run_helm("template", "finetune-operator", str(CHART), "--namespace", NAMESPACE, *sets)
