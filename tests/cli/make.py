"""Builders for the tests of the command: a valid job file, a folder that looks like a model, documents of a run."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from finetune_cli.app import app
from finetune_contract.names import API_VERSION, KIND
from finetune_contract.progress import CheckpointRecord, Outcome, Progress
from finetune_contract.spec import FineTuneJob
from tests.contract.make import merge

MINIMAL_SPEC: dict[str, Any] = {
    "task": "text-classification",
    "model": {"source": "file://./model"},
    "data": {"train": {"source": "file://./train.jsonl"}},
    "output": {"destination": "file://./out"},
}


def make_spec(change: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A valid spec with the change merged over it; null removes a field."""
    merged: dict[str, Any] = merge(MINIMAL_SPEC, dict(change or {}))
    return merged


def make_job(change: Mapping[str, Any] | None = None, name: str = "job") -> FineTuneJob:
    """A valid job."""
    return FineTuneJob.from_data(
        {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": make_spec(change)}
    )


def write_job(folder: Path, change: Mapping[str, Any] | None = None, name: str = "job") -> Path:
    """A file with a valid job."""
    file = folder / f"{name}.yaml"
    document = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": make_spec(change)}
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    return file


def write_model_files(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, tuple[str, list[int]]]) -> Path:
    """config.json and the header of a safetensors file: all that the plan reads of a model."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    header = {
        name: {"dtype": dtype, "shape": shape, "data_offsets": [0, 0]} for name, (dtype, shape) in tensors.items()
    }
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    return folder


def make_checkpoint(step: int, attempt: int = 1, digest: str | None = "sha256:00") -> CheckpointRecord:
    """A verified checkpoint in the ledger."""
    return CheckpointRecord(
        step=step, attempt=attempt, state="Verified", uri=f"file:///j/checkpoints/{step}", digest=digest
    )


def make_outcome(**fields: Any) -> Outcome:
    """A job that published its model."""
    defaults: dict[str, Any] = {
        "succeeded": True,
        "reason": "Published",
        "message": "The model is published.",
        "attempt": 1,
    }
    return Outcome(**{**defaults, **fields})


def make_progress(**fields: Any) -> Progress:
    """An agent's answer."""
    return Progress(**{"job_uid": "", "node": 0, "role": "trainer", **fields})


def call(*arguments: str | Path) -> Any:
    """Run the command in this process; the result has exit_code, stdout and stderr."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])
