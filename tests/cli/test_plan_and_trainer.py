"""The plan reads headers; the trainer loads the model. Both must count the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from finetune_cli import pod_memory
from finetune_cli.memory import StateInputs, estimate_snapshot
from finetune_cli.sources import look_at_model
from finetune_contract.spec import LoraOptions, StrategySpec
from finetune_trainer.agent import shared_memory
from finetune_trainer.messages import SnapshotReady
from finetune_trainer.strategies import lora
from finetune_trainer.tasks.loading import load_pretrained
from finetune_trainer.tasks.registry import find_task
from finetune_trainer.worker import slots
from tests.trainer.make import make_model_folder, make_prepared, make_run, make_tasks
from tests.trainer.pool import run_attempt

AUTO_CLASSES = {"text-classification": AutoModelForSequenceClassification, "text-generation": AutoModelForCausalLM}


@pytest.mark.parametrize("task", AUTO_CLASSES)
def test_the_plan_counts_the_adapters_that_the_trainer_makes(tmp_path: Path, task: str) -> None:
    folder = make_model_folder(tmp_path / "model", task)
    facts, _ = look_at_model(f"file://{folder}", {}, tmp_path)
    assert facts is not None
    model = load_pretrained(AUTO_CLASSES[task], folder, torch.float32)
    whole = sum(weight.numel() for weight in model.parameters())
    head = sum(weight.numel() for name, weight in model.named_parameters() if name.startswith("classifier"))
    adapted = lora.prepare(model, StrategySpec(method="lora", lora=LoraOptions(rank=4)), find_task(task))
    adapters = sum(weight.numel() for name, weight in adapted.named_parameters() if "lora_" in name)
    assert (facts.parameters, facts.lora_parameters(4, None)) == (whole - head, adapters)


@pytest.mark.matrix
@pytest.mark.distributed
@pytest.mark.parametrize("zero_stage", range(4))
def test_the_plan_knows_how_large_a_snapshot_is(tmp_path: Path, zero_stage: int) -> None:
    folder = make_model_folder(tmp_path / "model")
    data = make_prepared(tmp_path / "data", folder)
    run = make_run(world_size=2, workers_per_node=2, zero_stage=zero_stage, max_steps=1)
    attempt = run_attempt(make_tasks(run, folder, data, tmp_path / "work"))
    files = {Path(said.folder) / file for said in attempt.heard(SnapshotReady) for file in said.files}
    tensors = sum(file.stat().st_size for file in files if "engine" in file.parts or "weights" in file.parts)
    facts, _ = look_at_model(f"file://{folder}", {}, tmp_path)
    assert facts is not None
    inputs = StateInputs(facts.parameters, facts.parameters, "fp32", 2, zero_stage)
    assert estimate_snapshot(inputs, 2) == pytest.approx(tensors, rel=0.15)


def test_the_plan_leaves_as_much_shared_memory_as_the_agent_does() -> None:
    assert pod_memory.RESERVED_BYTES == shared_memory.RESERVED_BYTES
    assert pod_memory.SNAPSHOTS == slots.FEWEST_SLOTS
