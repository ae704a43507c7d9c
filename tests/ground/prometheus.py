"""A real Prometheus in the cluster's network, so that it reaches pods as one that runs in a pod does.

It listens on the bridge, is asked over HTTP, and keeps its figures in a folder that ``start`` empties. Debian's package
is built without the discovery of pods, so this one comes from its Go module.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ground import binaries, processes
from tests.ground.layout import Layout
from tests.ground.network import enter

PROGRAM = "prometheus"


@dataclass(frozen=True)
class Series:
    """One series of an answer."""

    labels: dict[str, str]
    points: tuple[tuple[float, float], ...]
    """(seconds since 1970, value)."""

    @property
    def values(self) -> list[float]:
        """Its values, oldest first."""
        return [value for _, value in self.points]


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    folder: Path
    address: str

    def query(self, expression: str, at: float | None = None) -> list[Series]:
        """Return an expression's value at one moment; None: now."""
        moment = {} if at is None else {"time": f"{at:.3f}"}
        found = self._ask("query", query=expression, **moment)
        if found["resultType"] == "scalar":
            return [Series({}, (_point(found["result"]),))]
        return [Series(each["metric"], (_point(each["value"]),)) for each in found["result"]]

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """Return an expression's values over a time."""
        found = self._ask("query_range", query=expression, start=f"{start:.3f}", end=f"{end:.3f}", step=str(step))
        return [Series(each["metric"], tuple(map(_point, each["values"]))) for each in found["result"]]

    def targets(self) -> list[dict[str, Any]]:
        """Return the targets that it scrapes now."""
        found: list[dict[str, Any]] = self._ask("targets", state="active")["activeTargets"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Return all rules with their health and their last error."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def is_ready(self) -> bool:
        """Say whether it answers."""
        try:
            with urllib.request.urlopen(f"{self.address}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _ask(self, what: str, **parameters: str) -> Any:
        data = urllib.parse.urlencode(parameters).encode()
        method = "GET" if what in ("targets", "rules") else "POST"
        url = f"{self.address}/api/v1/{what}" + (f"?{data.decode()}" if method == "GET" else "")
        request = urllib.request.Request(url, data=data if method == "POST" else None, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read())["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"Prometheus refuses {parameters}: {error.read().decode()}") from error


def start(
    layout: Layout, name: str, port: int, scrape_configs: Iterable[dict[str, Any]], rule_files: Iterable[Path] = ()
) -> Prometheus:
    """Start one with nothing remembered, in place of one of that name that runs."""
    program = binaries.find(PROGRAM, binaries.PROMETHEUS)
    folder = layout.state / "prometheus" / name
    processes.stop(folder, PROGRAM)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    configuration = write_configuration(folder / "prometheus.yml", scrape_configs, rule_files)
    listen = f"{layout.gateway}:{port}"
    command = [str(program), f"--config.file={configuration}", f"--storage.tsdb.path={folder}/data"]
    command += [f"--web.listen-address={listen}", "--log.level=warn", "--query.lookback-delta=1m"]
    processes.start(folder, PROGRAM, [*enter(layout), *command])
    prometheus = Prometheus(folder, f"http://{listen}")
    processes.wait_until(prometheus.is_ready, "Prometheus answers", folder, PROGRAM)
    return prometheus


def stop(prometheus: Prometheus) -> None:
    """Stop it and forget what it kept; its log stays."""
    processes.stop(prometheus.folder, PROGRAM)
    shutil.rmtree(prometheus.folder / "data", ignore_errors=True)


def write_configuration(path: Path, scrape_configs: Iterable[dict[str, Any]], rule_files: Iterable[Path] = ()) -> Path:
    """Write a configuration (JSON is YAML) and have promtool judge it."""
    content = {
        "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "5s"},
        "rule_files": [str(file) for file in rule_files],
        "scrape_configs": list(scrape_configs),
    }
    path.write_text(json.dumps(content, indent=1))
    promtool = str(binaries.find("promtool", binaries.PROMETHEUS))
    done = subprocess.run([promtool, "check", "config", str(path)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ValueError(f"promtool refuses {path}: {done.stdout}{done.stderr}")
    return path


def _point(pair: list[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])
