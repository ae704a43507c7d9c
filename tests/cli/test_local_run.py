"""Jobs on this machine, on real parts: the command, the agent, DeepSpeed workers, a folder as object storage.

The model is tiny and made from a config; the rows can be learnt.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from finetune_cli.agent_process import list_descendants
from tests.cli.make import write_job
from tests.waiting import wait_for

pytestmark = pytest.mark.distributed

STEPS = 300
LONG: dict[str, Any] = {
    "training": {"maxSteps": STEPS, "batchSize": 4, "learningRate": 1e-3},
    "evaluation": {"everySteps": STEPS},
}
SECONDS = 300.0


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and rows."""
    from tests.trainer.make import make_model_folder, make_rows

    folder = tmp_path_factory.mktemp("desk")
    make_model_folder(folder / "model")
    rows = make_rows("text-classification", 200)
    lines = (
        json.dumps({"text": text, "label": label}) for text, label in zip(rows["text"], rows["label"], strict=True)
    )
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    return folder


class Run:
    """A `finetune run` in a process of its own."""

    def __init__(self, folder: Path, file: Path, *options: str) -> None:
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        self.talk = folder / f"{file.stem}.talk"
        with self.talk.open("w") as talk:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "finetune_cli", "run", file.name, "--output", "json", *options],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=talk,
                text=True,
            )

    def end(self) -> tuple[int, dict[str, Any]]:
        """Exit code and what stood on stdout."""
        stdout, _ = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, json.loads(stdout) if stdout else {}

    def said(self, words: str) -> bool:
        return words in self.talk.read_text()

    def wait_until_it_says(self, words: str) -> None:
        self.wait_until_it_matches(re.escape(words))

    def wait_until_it_matches(self, pattern: str) -> None:
        def matches() -> bool:
            return re.search(pattern, self.talk.read_text()) is not None

        wait_for(lambda: matches() or self.process.poll() is not None, pattern, seconds=SECONDS)
        assert matches(), self.talk.read_text()


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has collected yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_job_ends_in_a_published_model_and_says_so_again(desk: Path) -> None:
    change = {
        "data": {"train": {"source": "pvc://rows/train.jsonl"}},
        "training": {"epochs": 2, "batchSize": 7, "learningRate": 1e-3},
        "evaluation": {"gate": [{"metric": "accuracy", "split": "test", "min": 0.1}]},
    }
    file = write_job(desk, change, "whole")
    options = ("--processes", "2", "--map", f"rows={desk}")
    code, report = Run(desk, file, *options).end()
    assert (code, report["result"]) == (0, "succeeded"), (desk / "whole.talk").read_text()
    published = Path(report["outcome"]["published"]["uri"].removeprefix("file://"))
    assert {"config.json", "model.safetensors", "README.md", "finetune-manifest.json"} <= {
        each.name for each in published.iterdir()
    }
    assert Path(report["outcome"]["report"].removeprefix("file://")).is_file()
    assert report["outcome"]["evaluation"]["gate"][0]["passed"] is True
    again = Run(desk, file, *options)
    assert again.end() == (0, {**report, "attempts": []})
    assert again.said("has ended before")


def find_worker(run: Run) -> int:
    """Process id of the one worker: the only descendant that has torch's threads."""
    descendants = list(list_descendants(run.process.pid))
    return max(descendants, key=lambda pid: len(list(Path(f"/proc/{pid}/task").iterdir())))


@pytest.fixture(scope="module")
def stopped(desk: Path) -> tuple[int, dict[str, Any], Run]:
    """A run whose worker was killed in training, and that got Ctrl-C in the attempt after: exit code, report, run."""
    run = Run(desk, write_job(desk, LONG, "long"))
    run.wait_until_it_says("training: step")
    os.kill(find_worker(run), signal.SIGKILL)
    run.wait_until_it_says("attempt 2 ")
    run.wait_until_it_matches(r"training: step .* attempt 2")
    run.process.send_signal(signal.SIGINT)
    return (*run.end(), run)


def test_a_killed_worker_is_followed_by_the_next_attempt_of_the_same_agent(
    stopped: tuple[int, dict[str, Any], Run],
) -> None:
    _, report, run = stopped
    first, second = report["attempts"]
    assert (first["number"], first["result"], first["failure"]["exitCode"]) == (1, "Failed", -9)
    assert (second["number"], second["result"], second["reason"]) == (2, "Stopped", "Suspended")
    assert run.said(f"{first['failure']['message']}; attempt 2 begins now")
    assert run.said("attempt 2 resumes from step ") or run.said("attempt 2 begins from the pre-trained model")


def test_ctrl_c_stops_with_a_checkpoint(stopped: tuple[int, dict[str, Any], Run]) -> None:
    code, report, _ = stopped
    assert (code, report["result"]) == (3, "stopped")
    assert 0 < report["step"] < STEPS
    assert report["message"] == f"stopped at step {report['step']}; the same command resumes there"


def test_a_changed_job_is_refused_with_its_fields(desk: Path, stopped: tuple[int, dict[str, Any], Run]) -> None:
    changed = write_job(desk, {**LONG, "strategy": {"method": "lora"}}, "long")
    run = Run(desk, changed)
    assert run.end() == (2, {})
    assert run.said("spec.strategy.method: full -> lora")
    assert run.said("--fresh")


def test_the_same_command_resumes_and_ends_although_its_agent_dies(
    desk: Path, stopped: tuple[int, dict[str, Any], Run]
) -> None:
    _, before, _ = stopped
    run = Run(desk, write_job(desk, LONG, "long"))
    run.wait_until_it_says("training: step")
    *others, agent = list_descendants(run.process.pid)
    os.kill(agent, signal.SIGKILL)
    code, report = run.end()
    assert (code, report["result"]) == (0, "succeeded"), run.talk.read_text()
    assert run.said(f"attempt 3 resumes from step {before['step']}")
    lost, last = report["attempts"]
    assert "the agent ended by signal 9" in lost["failure"]["message"]
    assert any("step" in line for line in lost["failure"]["lastLines"])
    assert (last["number"], last["result"], report["outcome"]["attempt"]) == (4, "Finished", 4)
    log = (desk / ".finetune" / "runs" / "long" / "agent.log").read_text()
    steps = [int(step) for step in re.findall(r"attempt=3 rank=0\].* step (\d+)/", log)]
    assert min(steps) > before["step"]
    wait_for(lambda: not any(map(is_alive, others)), "the end of the workers", seconds=30)


@pytest.mark.matrix
def test_a_column_that_does_not_exist_fails_at_once_and_its_correction_starts_anew(desk: Path) -> None:
    run = Run(desk, write_job(desk, {**LONG, "data": {"columns": {"label": "kind"}}}, "column"))
    code, report = run.end()
    assert (code, report["failure"]["reason"]) == (1, "DataError"), run.talk.read_text()
    assert "kind" in report["message"]
    assert len(report["attempts"]) == 1
    short = {"training": {"maxSteps": 2, "batchSize": 4}}
    again = Run(desk, write_job(desk, short, "column"))
    code, report = again.end()
    assert (code, report["result"]) == (0, "succeeded"), again.talk.read_text()
    assert again.said("has no checkpoint yet")


@pytest.mark.matrix
def test_a_deadline_stops_the_run(desk: Path) -> None:
    run = Run(desk, write_job(desk, {**LONG, "lifecycle": {"activeDeadlineSeconds": 1}}, "late"))
    code, report = run.end()
    assert (code, report["failure"]["reason"]) == (1, "DeadlineExceeded")
    assert "raise it, and the same command resumes" in report["message"]


@pytest.mark.matrix
def test_a_second_ctrl_c_ends_everything_at_once(desk: Path) -> None:
    run = Run(desk, write_job(desk, LONG, "killed"))
    run.wait_until_it_says("training: step")
    *others, agent = list_descendants(run.process.pid)
    os.kill(agent, signal.SIGSTOP)  # as if the checkpoint took for ever
    run.process.send_signal(signal.SIGINT)
    run.wait_until_it_says("stopping with a checkpoint")
    run.process.send_signal(signal.SIGINT)
    code, report = run.end()
    assert (code, report["result"]) == (1, "failed")
    assert "ended without a checkpoint" in report["message"]
    assert others
    wait_for(lambda: not any(map(is_alive, [*others, agent])), "the end of agent and workers", seconds=30)
