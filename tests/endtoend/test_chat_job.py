"""The same line for a chat model: LoRA on an 8-layer SmolLM2, published merged with the adapter beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline

from tests.endtoend.ground import Ground
from tests.endtoend.make import make_chat_job
from tests.waiting import wait_for

MINUTES = 60


@pytest.fixture(scope="module")
def status(ground: Ground) -> dict[str, Any]:
    ground.kubectl.apply(make_chat_job("chat"))
    wait_for(lambda: _phase(ground) == "Running", "the job trains", seconds=5 * MINUTES)
    ground.system("delete", "pod", "-l", "app.kubernetes.io/name=finetune-operator", "--wait=false")
    ground.kubectl.wait("chat", "Succeeded", timeout=15 * MINUTES)
    found: dict[str, Any] = ground.kubectl.get("ftj", "chat")["status"]
    return found


def _phase(ground: Ground) -> str:
    phase: str = ground.kubectl.get("ftj", "chat").get("status", {}).get("phase", "")
    return phase


def test_an_operator_killed_during_training_changes_nothing_for_the_job(status: dict[str, Any]) -> None:
    assert [(attempt["number"], attempt["result"]) for attempt in status["attempts"]] == [(1, "Finished")]
    assert status["progress"]["step"] == status["progress"]["totalSteps"] == 30


@pytest.fixture(scope="module")
def published(ground: Ground, status: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ground.bucket.download(status["published"]["uri"], tmp_path_factory.mktemp("chat"))


def test_perplexity_fell(status: dict[str, Any]) -> None:
    evaluation = status["evaluation"]
    assert evaluation["test"]["perplexity"] < 0.8 * evaluation["baseline"]["perplexity"]
    assert set(evaluation["test"]) >= {"loss", "perplexity", "token_accuracy"}


def test_published_folder_chats_by_a_pipeline(ground: Ground, published: Path) -> None:
    row = json.loads((ground.chat / "test.jsonl").read_text(encoding="utf-8").splitlines()[0])
    generate = pipeline("text-generation", model=str(published), max_new_tokens=16, do_sample=False)
    answer = generate(row["messages"][:1])[0]["generated_text"][-1]
    assert answer["role"] == "assistant"
    assert answer["content"].strip()


def test_adapter_lies_beside_the_merged_model(published: Path) -> None:
    assert (published / "adapter" / "adapter_model.safetensors").is_file()
    assert (published / "adapter" / "adapter_config.json").is_file()
