"""Builders of attempts and runs, and agents as real processes with a folder of their own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_contract import names
from finetune_contract.attempt import Attempt, Endpoint, StopRequest
from finetune_contract.progress import Progress
from finetune_contract.run import RunConfig
from finetune_trainer.agent.launcher import Launcher
from finetune_trainer.agent.metrics import Metrics
from finetune_trainer.agent.progress import Board
from finetune_trainer.agent.settings import Settings
from finetune_trainer.agent.site import Site
from finetune_trainer.results import PreparedPointer
from finetune_trainer.store.store import Store
from tests.ground.cache import REPOSITORY
from tests.publish.make import make_prepared, make_spec
from tests.publish.make import make_run as make_published_run
from tests.waiting import wait_for

PATIENCE = 240.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_attempt(number: int = 1, nodes: int = 1, **changes: Any) -> Attempt:
    """An attempt whose members are all on this machine."""
    fields: dict[str, Any] = {
        "number": number,
        "members": {str(node): "127.0.0.1" for node in range(nodes)},
        "master": Endpoint(host="127.0.0.1", port=free_port()),
    }
    return Attempt(**(fields | changes))


def make_run(
    destination: str, nodes: int = 1, processes: int = 1, steps: int = 20, uid: str = "", **spec: Any
) -> RunConfig:
    """A run that writes below `destination`; without a uid it is a local one."""
    training = {"maxSteps": steps, "batchSize": 8}
    changes = {"output": {"destination": destination}, "training": training, "evaluation": {"everySteps": 5}}
    run = make_published_run(
        make_spec(**(changes | spec)),
        world_size=nodes * processes,
        nodes=nodes,
        workers_per_node=processes,
        batch_size=8,
        max_steps=steps,
    )
    return run.model_copy(update={"job": run.job.model_copy(update={"uid": uid})})


def make_settings(run: RunConfig, work_dir: Path, node: int = 0) -> Settings:
    """What an agent is told by its environment."""
    return Settings(run, work_dir, work_dir, work_dir, node, "trainer", "127.0.0.1", 0, None, None)


def make_site(run: RunConfig, work_dir: Path, node: int = 0, store: Store | None = None) -> Site:
    """An agent's tools without the agent."""
    store = store or Store.open(run.job_uri, {})
    board, metrics = Board("", node, "trainer"), Metrics(run, node, None)
    return Site(make_settings(run, work_dir, node), {}, store, board, metrics, Launcher())


def put_prepared(store: Store, folder: Path, behaviour: Mapping[str, Any] | None = None) -> None:
    """Leave the data as preparation does; `behaviour` is the tiny worker's."""
    data, model = folder / "prepared", folder / "model"
    data.mkdir(parents=True)
    model.mkdir()
    (data / names.FILE_PREPARED).write_text(make_prepared().to_json())
    if behaviour is not None:
        (data / "behaviour.json").write_text(json.dumps(behaviour))
    (model / "config.json").write_text("{}")
    pointer = PreparedPointer(uri=f"file://{data}", model_uri=f"file://{model}", summary=make_prepared().summary)
    store.put(names.FILE_PREPARED, pointer.to_json().encode())


@dataclass
class AgentProcess:
    """One agent with its own folder; the test plays the operator."""

    folder: Path
    run: RunConfig
    node: int = 0
    role: str = names.ROLE_TRAINER
    module: str = "tests.agent.tiny_agent"
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)

    def __enter__(self) -> AgentProcess:
        self.annotations.mkdir(parents=True)
        (self.folder / "run.json").write_text(self.run.to_json())
        self._log = (self.folder / "agent.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module],
            env={**os.environ, "OMP_NUM_THREADS": "1", **self._variables, **self.environment},
            cwd=REPOSITORY,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._log.close()

    @property
    def annotations(self) -> Path:
        return self.folder / "annotations"

    @property
    def log(self) -> str:
        return (self.folder / "agent.log").read_text()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log, every line of which has to be one object."""
        return [json.loads(line) for line in self.log.split("\n") if line]

    @property
    def end(self) -> dict[str, Any]:
        """The termination message."""
        end: dict[str, Any] = json.loads((self.folder / "termination").read_text())
        return end

    def annotate(self, attempt: Attempt) -> None:
        self._write(names.FILE_ATTEMPT, attempt.to_json())

    def stop(self, attempt: int = 1) -> None:
        """Wish the end of attempts up to this one."""
        self._write(names.FILE_STOP, StopRequest(attempt=attempt, reason="Suspended").to_json())

    def finish(self) -> int:
        """Give leave, and return the exit code."""
        self._write(names.FILE_FINISH, "done")
        return self.process.wait(PATIENCE)

    def terminate(self) -> int:
        """SIGTERM, as the kubelet sends it; return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def progress(self) -> Progress:
        return Progress.from_json(self._read(names.PATH_PROGRESS))

    def metrics(self) -> dict[str, float]:
        """Sample (with labels) -> value."""
        lines = [line for line in self._read(names.PATH_METRICS).splitlines() if line and not line.startswith("#")]
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}

    def is_ready(self) -> bool:
        """What the kubelet's probe sees."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request("GET", names.PATH_READY)
        status = connection.getresponse().status
        connection.close()
        return {200: True, 503: False}[status]

    def wait_for_news(self, attempt: int = 1) -> Progress:
        """Wait until the probe would fail, and return what there is to tell."""

        def look() -> Progress | None:
            progress = self.try_progress()
            return progress if progress and progress.news and progress.attempt == attempt else None

        progress = wait_for(look, f"news of {self.folder.name}\n{self.log[-3000:]}", seconds=PATIENCE)
        assert not self.is_ready()
        return progress

    def wait_for_resume(self, attempt: int) -> Progress:
        """Wait until an attempt has said from which checkpoint it goes on."""

        def look() -> Progress | None:
            progress = self.try_progress()
            return progress if progress and progress.attempt == attempt and progress.resumed_from else None

        return wait_for(look, f"attempt {attempt} of {self.folder.name} resumes", seconds=PATIENCE)

    def wait_for_step(self, step: int) -> Progress:
        def look() -> Progress | None:
            progress = self.try_progress()
            return progress if progress and progress.step.step >= step else None

        return wait_for(look, f"step {step} of {self.folder.name}", seconds=PATIENCE)

    def try_progress(self) -> Progress | None:
        try:
            return self.progress()
        except (urllib.error.URLError, ConnectionError):
            assert self.process.poll() is None, self.log
            return None

    def _read(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def _write(self, name: str, text: str) -> None:
        """As the kubelet does: readers see the old content or the new."""
        draft = self.annotations / f"..{name}"
        draft.write_text(text)
        draft.replace(self.annotations / name)

    @property
    def _variables(self) -> dict[str, str]:
        return {
            names.ENV_RUN_CONFIG: str(self.folder / "run.json"),
            names.ENV_ANNOTATIONS_DIR: str(self.annotations),
            names.ENV_WORK_DIR: str(self.folder / "work"),
            names.ENV_NODE_INDEX: str(self.node),
            names.ENV_ROLE: self.role,
            names.ENV_PORT: str(self.port),
            names.ENV_TERMINATION_LOG: str(self.folder / "termination"),
        }


def find_workers(agent: AgentProcess) -> list[int]:
    """Process ids of what an agent has started in sessions of their own: workers, preparation, publishing."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if str(agent.folder).encode() in path.read_bytes() and _leads_session(path.parent):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return [pid for pid in found if pid != agent.process.pid]


def _leads_session(process: Path) -> bool:
    fields = (process / "stat").read_text().rpartition(") ")[2].split()
    return fields[3] == process.name and fields[0] != "Z"
