"""The same line for a chat model: LoRA on an 8-layer SmolLM2, published merged with the adapter beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline

from tests.endtoend.chat_run import ChatRun
from tests.endtoend.ground import Ground


@pytest.fixture(scope="module")
def status(chat: ChatRun) -> dict[str, Any]:
    return chat.status


def test_a_killed_worker_costs_an_attempt_and_a_killed_operator_nothing(status: dict[str, Any]) -> None:
    ends = [(attempt["number"], attempt["result"], attempt.get("reason")) for attempt in status["attempts"]]
    assert ends == [(1, "Failed", "CodeCrash"), (2, "Finished", "Finished")]
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
