"""`finetune run` with a GPU: rows prepared, trained, saved, judged and published, whatever DeepSpeed is asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from finetune_contract.run import RunConfig
from finetune_trainer.results import FinalEvaluation
from tests.cli.make import write_job
from tests.gpu.make import CASES, DEVICE, Case, name_case
from tests.trainer.make import losses_of, make_model_folder, make_rows

pytestmark = [pytest.mark.gpu, pytest.mark.distributed]

SECONDS = 240.0


@dataclass(frozen=True)
class Ended:
    """A `finetune run` that has ended."""

    code: int
    report: dict[str, Any]
    talk: str
    scratch: Path

    @property
    def run(self) -> RunConfig:
        """What the agent was told."""
        return RunConfig.from_json((self.scratch / "run.json").read_text())

    @property
    def words(self) -> str:
        """What command, agent and workers said, for a test that fails."""
        log = self.scratch / "agent.log"
        return self.talk + (log.read_text()[-20_000:] if log.is_file() else "")

    def read_evaluation(self, attempt: int = 1) -> FinalEvaluation:
        """The figures that an attempt ended with."""
        return FinalEvaluation.from_json((self.scratch / f"work/attempt-{attempt}/evaluation.json").read_bytes())


def run_job(folder: Path, name: str, change: Mapping[str, Any], **environment: str) -> Ended:
    """Run a job to its end, in a process that sees the GPUs that this one sees."""
    file = write_job(folder, change, name)
    inherited = {key: value for key, value in os.environ.items() if key != "DS_ACCELERATOR"}
    done = subprocess.run(
        [sys.executable, "-m", "finetune_cli", "run", file.name, "--output", "json"],
        cwd=folder,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    report = json.loads(done.stdout) if done.stdout else {}
    return Ended(done.returncode, report, done.stderr, folder / ".finetune" / "runs" / name)


def write_rows(folder: Path, task: str, count: int) -> None:
    columns = make_rows(task, count)
    lines = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    for line in lines:
        if "messages" in line:
            line["messages"] = json.loads(line["messages"])
    (folder / "train.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small encoder without dropout and rows."""
    folder = tmp_path_factory.mktemp("desk")
    make_model_folder(folder / "model", dropout=0.0)
    write_rows(folder, "text-classification", 200)
    return folder


def case_id(value: object) -> str | None:
    return name_case(value) if isinstance(value, Case) else None


@pytest.mark.parametrize(
    ("method", "case"), [*(("full", case) for case in CASES), ("lora", Case(0)), ("lora", Case(2))], ids=case_id
)
def test_a_job_with_a_gpu_is_published(desk: Path, method: str, case: Case) -> None:
    training = {"epochs": 2, "batchSize": 8, "learningRate": 1e-3}
    change = {
        "strategy": {"method": method},
        "training": {**training, **case.spec["training"]},
        "evaluation": {"gate": [{"metric": "accuracy", "split": "test", "min": 0.1}]},
        "checkpoints": {"everySteps": 5},
    }
    ended = run_job(desk, f"{method}-{name_case(case)}", change)
    assert (ended.code, ended.report.get("result")) == (0, "succeeded"), ended.words
    resolved = ended.run.resolved
    assert (resolved.device, resolved.precision, resolved.zero_stage) == (DEVICE, "bf16", case.zero_stage)
    assert [attempt["result"] for attempt in ended.report["attempts"]] == ["Finished"]
    published = Path(ended.report["outcome"]["published"]["uri"].removeprefix("file://"))
    assert {"config.json", "model.safetensors", "README.md"} <= {each.name for each in published.iterdir()}
    assert ended.report["outcome"]["evaluation"]["gate"][0]["passed"] is True


def test_losses_on_the_gpu_are_those_on_the_cpu(desk: Path) -> None:
    change = {"training": {"epochs": 2, "batchSize": 8, "learningRate": 1e-3, "precision": "fp32"}}
    curves = {}
    for name, environment in (("on-gpu", {}), ("on-cpu", {"CUDA_VISIBLE_DEVICES": ""})):
        ended = run_job(desk, name, change, **environment)
        assert ended.code == 0, ended.words
        curves[ended.run.resolved.device] = losses_of(ended.read_evaluation().curves)
    assert curves.keys() == {"cpu", DEVICE}
    apart = max(abs(gpu - cpu) for gpu, cpu in zip(curves[DEVICE], curves["cpu"], strict=True))
    print(f"{len(curves['cpu'])} losses, from {curves['cpu'][0]:.4f} to {curves['cpu'][-1]:.4f}, {apart:.2e} apart")
    assert curves[DEVICE] == pytest.approx(curves["cpu"], abs=2e-4)


def test_a_micro_batch_that_does_not_fit_into_the_gpu_is_halved_until_it_does(tmp_path: Path) -> None:
    """The vocabulary is large, so that logits fill the memory, of which torch may have 0.6 GB of the card's 80."""
    make_model_folder(tmp_path / "model", "text-generation", dropout=0.0, vocabulary=200_000)
    write_rows(tmp_path, "text-generation", 256)
    change = {
        "task": "text-generation",
        "training": {"maxSteps": 4, "batchSize": 64, "microBatchSize": 64, "learningRate": 1e-3},
        "evaluation": {"batchSize": 4},
    }
    ended = run_job(tmp_path, "greedy", change, PYTORCH_CUDA_ALLOC_CONF=f"per_process_memory_fraction:{find_share()}")
    assert (ended.code, ended.report.get("result")) == (0, "succeeded"), ended.words
    *failed, last = ended.report["attempts"]
    assert failed, ended.words
    assert {attempt["failure"]["failureClass"] for attempt in failed} == {"OutOfMemory"}
    assert (
        "for micro-batches of 64 rows: the next attempt computes 32 rows at a time" in failed[0]["failure"]["message"]
    )
    assert failed[0]["failure"]["phase"] in ("forward", "backward")
    assert last["result"] == "Finished"


def find_share() -> float:
    """0.6 GB as a share of this card's memory, for torch's allocator."""
    import torch

    return round(0.6e9 / torch.cuda.get_device_properties(0).total_memory, 6)
