"""The plan reads headers; the trainer loads the model. Both must count the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from finetune_cli.sources import look_at_model
from finetune_contract.spec import LoraOptions, StrategySpec
from finetune_trainer.strategies import lora
from finetune_trainer.tasks.loading import load_pretrained
from finetune_trainer.tasks.registry import find_task
from tests.trainer.make import make_model_folder

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
