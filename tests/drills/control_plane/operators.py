"""One replica of the operator with somebody who starts it again when it ends, as the kubelet does in a cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.control_plane.kubelet import find_port


class Replica:
    """`python -m finetune_operator` for one namespace; the same name in each of its lives."""

    def __init__(self, kubeconfig: Path, folder: Path, namespace: str, agent_port: int, name: str = "one") -> None:
        self.log = folder / f"{name}.log"
        self.starts = 0
        self.metrics_port = find_port()
        self._environment = os.environ | {
            "KUBECONFIG": str(kubeconfig),
            "POD_NAMESPACE": namespace,
            "POD_NAME": name,
            "FINETUNE_OPERATOR_WATCH_NAMESPACES": namespace,
            "FINETUNE_OPERATOR_AGENT_PORT": str(agent_port),
            "FINETUNE_OPERATOR_METRICS_PORT": str(self.metrics_port),
            "FINETUNE_OPERATOR_PROBE_PORT": str(find_port()),
            "FINETUNE_OPERATOR_WORKERS": "4",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Replica:
        self.keep_running()
        return self

    def __exit__(self, *_: object) -> None:
        self.resume()
        self.kill()
        if self._process is not None:
            self._process.wait(10)

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process is not None and self._process.poll() is not None

    def keep_running(self) -> None:
        """Start it, if it does not run."""
        if self._process is None or self._process.poll() is not None:
            with self.log.open("ab") as stream:
                command = [sys.executable, "-m", "finetune_operator"]
                self._process = subprocess.Popen(
                    command, env=self._environment, stdout=stream, stderr=subprocess.STDOUT
                )
            self.starts += 1

    def kill(self) -> None:
        """SIGKILL: nothing is put in order."""
        self._signal(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP: it lives and does nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
