"""kubectl as a person uses it: every step of the end-to-end tests goes through the same commands as the README's."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Kubectl:
    """kubectl against one cluster and namespace."""

    kubeconfig: Path
    namespace: str
    program: str = "kubectl"

    def __call__(self, *arguments: str, stdin: str | None = None, timeout: float = 60) -> str:
        """Run a command and return what it printed; a failure carries kubectl's own words."""
        done = self._run(*arguments, stdin=stdin, timeout=timeout)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def refused(self, *arguments: str, stdin: str | None = None) -> str:
        """Run a command that must fail, and return why it did."""
        done = self._run(*arguments, stdin=stdin, timeout=60)
        assert done.returncode != 0, f"kubectl {' '.join(arguments)} was expected to fail: {done.stdout}"
        return done.stderr

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects."""
        self("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """One object."""
        found: dict[str, Any] = json.loads(self("get", kind, name, "-o", "json"))
        return found

    def list(self, kind: str, selector: str) -> list[dict[str, Any]]:
        """Objects by label."""
        items: list[dict[str, Any]] = json.loads(self("get", kind, "-l", selector, "-o", "json"))["items"]
        return items

    def wait(self, job: str, condition: str, timeout: int) -> None:
        """`kubectl wait` for a condition of a job; a job that ended otherwise fails at once, with its status."""
        deadline = time.monotonic() + timeout
        command = ("wait", f"ftj/{job}", f"--for=condition={condition}", "--timeout=10s")
        while (done := self._run(*command, timeout=40)).returncode != 0:
            status = self.get("ftj", job).get("status", {})
            if status.get("phase") in ("Succeeded", "Failed") or time.monotonic() > deadline:
                raise AssertionError(f"{done.stderr}\n{yaml.safe_dump(status)}")

    def raw(self, path: str, timeout: float = 60) -> str:
        """A GET through the API server, e.g. to a pod's port."""
        return self("get", "--raw", path, timeout=timeout)

    def pod_port(self, pod: str, port: int, path: str, timeout: float = 60) -> str:
        """What a pod answers at a port, by the API server's proxy (works on any cluster)."""
        return self.raw(f"/api/v1/namespaces/{self.namespace}/pods/{pod}:{port}/proxy{path}", timeout)

    def _run(self, *arguments: str, stdin: str | None = None, timeout: float) -> subprocess.CompletedProcess[str]:
        command = [self.program, "--kubeconfig", str(self.kubeconfig), "-n", self.namespace, *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)


@dataclass
class Watch:
    """`kubectl get ftj NAME -w` in the background: every phase in the order it was seen."""

    kubectl: Kubectl
    job: str
    phases: list[str] = field(default_factory=list)

    def __enter__(self) -> Watch:
        command = [self.kubectl.program, "--kubeconfig", str(self.kubectl.kubeconfig), "-n", self.kubectl.namespace]
        command += ["get", "ftj", "--field-selector", f"metadata.name={self.job}", "-w"]
        command += ["-o", 'jsonpath={.status.phase}{"\\n"}']
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._thread.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            phase = line.strip() or "Pending"
            if not self.phases or self.phases[-1] != phase:
                self.phases.append(phase)
