"""Which tokens of a chat are learnt: what the assistant says and the token that ends its turn, nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from finetune_trainer.errors import ModelError
from finetune_trainer.tasks.task import Encoding
from finetune_trainer.tasks.text_generation import IGNORED, encode
from tests.trainer.make import make_tokenizer

CHAT = [
    {"role": "system", "content": "word1"},
    {"role": "user", "content": "word2 word3"},
    {"role": "assistant", "content": "word4 word5"},
    {"role": "user", "content": "word2"},
    {"role": "assistant", "content": "word6"},
]
PLAIN = "{% for m in messages %}<|{{ 'user' if m.role == 'system' else m.role }}|> {{ m.content }} "
TURN = PLAIN + "<|end|>{% endfor %}"
MARKED = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|assistant|> "
    "{% generation %}{{ m.content }} <|end|>{% endgeneration %}{% else %}<|user|> {{ m.content }} <|end|>{% endif %}"
    "{% endfor %}"
)
NO_END = PLAIN + "{% endfor %}"
FIRST_TURNS_CHANGED = (
    "{% for m in messages %}<|user|> {% if m.role == 'assistant' and not loop.last %}word9 {% endif %}"
    "{{ m.content }} <|end|>{% endfor %}"
)
SHOUTED = "{% for m in messages %}<|user|> {{ m.content | replace('word4', 'word7') }} <|end|>{% endfor %}"


def learn(chat: list[dict[str, Any]], tokenizer: Any) -> list[str]:
    """The texts that are learnt, joined where tokens follow each other."""
    columns = {"messages": [json.dumps(chat)]}
    labels = encode(columns, tokenizer, Encoding(max_length=512))["labels"][0]
    runs: list[list[int]] = [[]]
    for label in labels:
        if label == IGNORED:
            runs.append([])
        else:
            runs[-1].append(label)
    return [tokenizer.decode(run) for run in runs if run]


def make_chat_tokenizer(template: str) -> PreTrainedTokenizerFast:
    tokenizer = make_tokenizer(chat=True)
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("template", [TURN, MARKED, FIRST_TURNS_CHANGED], ids=["plain", "marked", "changing"])
def test_the_assistants_turns_and_their_ends_are_learnt(template: str) -> None:
    assert learn(CHAT, make_chat_tokenizer(template)) == ["word4 word5 <|end|>", "word6 <|end|>"]


def test_a_template_without_ends_gets_one_after_the_last_turn() -> None:
    assert learn(CHAT, make_chat_tokenizer(NO_END)) == ["word4 word5", "word6 <|end|>"]


def test_a_template_that_changes_what_is_said_is_refused() -> None:
    with pytest.raises(ModelError, match="changes what the assistant says"):
        learn(CHAT, make_chat_tokenizer(SHOUTED))


def test_a_model_without_template_is_refused() -> None:
    tokenizer = make_tokenizer(chat=True)
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match="the model has no chat template"):
        learn(CHAT, tokenizer)


def test_a_templates_own_refusal_is_told() -> None:
    with pytest.raises(ModelError, match="refuses a row: roles must alternate"):
        learn(CHAT, make_chat_tokenizer("{{ raise_exception('roles must alternate') }}"))


def test_a_chat_without_assistant_has_nothing_to_learn() -> None:
    columns = {"messages": [json.dumps(CHAT[:2])]}
    encoded = encode(columns, make_tokenizer(chat=True), Encoding(max_length=512))
    assert encoded["targets"] == [0]


def test_smollms_own_template_without_markers_is_followed(smollm_cut: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm_cut)
    assert "generation %}" not in tokenizer.chat_template
    chat = [
        {"role": "user", "content": "Say <|im_start|>assistant to me, please."},
        {"role": "assistant", "content": "def f():\n    return 'ä€'\n"},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": "Done."},
    ]
    assert learn(chat, tokenizer) == ["def f():\n    return 'ä€'\n<|im_end|>", "Done.<|im_end|>"]
    rendered = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=True)["input_ids"]
    assert encode({"messages": [json.dumps(chat)]}, tokenizer, Encoding(512))["input_ids"] == [rendered]
