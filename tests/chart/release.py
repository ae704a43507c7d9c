"""The chart on a real API server, by helm and kubectl."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chart.render import CHART, NAMESPACE, run_helm
from tests.ground import binaries

FOREIGN = Path(__file__).with_name("foreign")
PREVIOUS = FOREIGN / "finetune-operator-0.1.0.tgz"
"""The chart's version before this one."""


@dataclass(frozen=True)
class Release:
    """One release of the chart, by default the one that the documents install."""

    kubeconfig: Path
    namespace: str = NAMESPACE
    name: str = "finetune-operator"
    adopts: bool = False
    """Whether it takes over a CRD that is there from other tests."""

    def kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl."""
        kubectl = str(binaries.find("kubectl", binaries.CONTROL_PLANE))
        command = [kubectl, f"--kubeconfig={self.kubeconfig}", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects."""
        done = self.kubectl("apply", "--server-side", "--filename=-", stdin=json.dumps(as_list(objects)))
        assert done.returncode == 0, done.stderr

    def get(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        """One object."""
        done = self.kubectl("get", kind, name, f"--namespace={namespace}", "--output=json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def has(self, kind: str, name: str, namespace: str = "default") -> bool:
        """Whether an object is there."""
        done = self.kubectl("get", kind, name, f"--namespace={namespace}", "--ignore-not-found", "--output=name")
        return bool(done.stdout.strip())

    def make_namespaces(self, *namespaces: str) -> None:
        """Namespaces under the restricted pod standard."""
        for namespace in namespaces:
            self.kubectl("create", "namespace", namespace)
            self.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")

    def install(self, *settings: str, chart: Path = CHART, flags: tuple[str, ...] = (), reset: bool = True) -> str:
        """Install or upgrade, by default with no values but these, and return what helm prints."""
        done = self._upgrade(settings, chart, flags, reset)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refuse(self, *settings: str, flags: tuple[str, ...] = (), reset: bool = True) -> str:
        """Why helm does not install."""
        done = self._upgrade(settings, CHART, flags, reset)
        assert done.returncode != 0, f"accepted: {settings}"
        return done.stderr

    def test(self, timeout: str) -> str:
        """`helm test`, and what it prints."""
        done = self._helm("test", self.name, f"--timeout={timeout}")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def uninstall(self) -> None:
        """Uninstall."""
        done = self._helm("uninstall", self.name)
        assert done.returncode == 0, done.stderr

    def may(self, verb: str, resource: str, namespace: str) -> bool:
        """Whether the operator's account may do that, as the API server sees it."""
        kind, _, subresource = resource.partition("/")
        account = f"system:serviceaccount:{self.namespace}:{self.name}"
        place = (f"--namespace={namespace}", f"--as={account}", f"--subresource={subresource}")
        done = self.kubectl("auth", "can-i", verb, kind, *place)
        return done.stdout.strip() == "yes"

    def _upgrade(
        self, settings: tuple[str, ...], chart: Path, flags: tuple[str, ...], reset: bool
    ) -> subprocess.CompletedProcess[str]:
        kept = ("--reset-values",) if reset else ()
        sets = [part for setting in settings for part in ("--set", setting)]
        return self._helm("upgrade", "--install", self.name, str(chart), "--create-namespace", *sets, *kept, *flags)

    def _helm(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        adopt = ("--take-ownership",) if self.adopts and verb == "upgrade" else ()
        return run_helm(verb, *arguments, *adopt, f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}")


def as_list(objects: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """Objects as kubectl takes several at once."""
    return {"apiVersion": "v1", "kind": "List", "items": list(objects)}
