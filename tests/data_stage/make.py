"""Builders of the data stage's tests: rows in files, a job that reads them, one call of the stage."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import load_from_disk

from finetune_contract.run import RunConfig
from finetune_contract.spec.task import TASK_COLUMNS
from finetune_trainer.data.prepare import prepare
from finetune_trainer.data.prepared import PreparedData, read_prepared
from finetune_trainer.data.speech import Speech
from finetune_trainer.results import PreparedPointer
from tests.trainer.make import make_run

Row = Mapping[str, Any]


def make_rows(count: int = 40) -> list[dict[str, Any]]:
    """Distinct mails, every fourth of them spam."""
    return [{"text": f"mail {number}", "label": "spam" if number % 4 == 0 else "ham"} for number in range(count)]


def write_rows(path: Path, rows: Iterable[Row]) -> Path:
    """One JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


@dataclass(frozen=True)
class Stage:
    """A job's data stage in a folder of its own."""

    root: Path
    run: RunConfig

    def prepare(self) -> PreparedPointer:
        """Run the stage in this process."""
        return prepare(self.run, self.root / "work", Speech(io.StringIO()))

    def rows(self, pointer: PreparedPointer, part: str) -> list[dict[str, Any]]:
        """The rows of a part as workers read them."""
        return list(load_from_disk(f"{pointer.uri.removeprefix('file://')}/{part}"))

    def prepared(self, pointer: PreparedPointer) -> PreparedData:
        """The document beside them."""
        return read_prepared(Path(pointer.uri.removeprefix("file://")))


def make_stage(
    root: Path,
    model: Path,
    train: Iterable[Row] | Path | None = None,
    *,
    task: str = "text-classification",
    data: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
) -> Stage:
    """A job whose training rows are these (forty mails when absent); `data` and `spec` add to what it says."""
    source = train if isinstance(train, Path) else write_rows(root / "train.jsonl", train or make_rows())
    named = columns or {name: name for name in TASK_COLUMNS[task][0]}
    everything = {
        "model": {"source": f"file://{model}"},
        "data": {"train": {"source": f"file://{source}"}, **(data or {})},
        "output": {"destination": f"file://{root / 'out'}"},
        **(spec or {}),
    }
    return Stage(root, make_run(task, everything, columns=dict(named)))


def source_of(path: Path) -> dict[str, str]:
    """A part's source."""
    return {"source": f"file://{path}"}


def run_command(stage: Stage, **environment: str) -> tuple[int, list[dict[str, Any]]]:
    """Run the stage as the agent does; exit code and the lines that it said."""
    path = stage.root / "run.json"
    path.write_text(stage.run.to_json())
    command = [sys.executable, "-m", "finetune_trainer.data", "--run", str(path), "--work-dir", str(stage.root / "w")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=os.environ | environment)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]
