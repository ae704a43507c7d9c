"""The code in the model card runs on a published folder as it is printed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from finetune_trainer.publish.card import write_card
from finetune_trainer.publish.inputs import Inputs
from tests.publish.make import make_chat_inputs, make_inputs, make_report, make_run

WORDS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4, "text": 5}
CHAT_TEMPLATE = "{% for message in messages %}{{ message['role'] }} {{ message['content'] }} {% endfor %}"


def save_tokenizer(folder: Path) -> None:
    words = Tokenizer(WordLevel(dict(WORDS), unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", eos_token="[SEP]", model_max_length=64
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(str(folder))


def save_classifier(folder: Path) -> None:
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    labels = {0: "ham", 1: "spam"}
    config = BertConfig(vocab_size=len(WORDS), id2label=labels, label2id={"ham": 0, "spam": 1}, **shape)
    BertForSequenceClassification(config).save_pretrained(str(folder))
    save_tokenizer(folder)


def save_generator(folder: Path) -> None:
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(WORDS), **shape)).save_pretrained(str(folder))
    save_tokenizer(folder)


def run_card_code(inputs: Inputs, folder: Path) -> None:
    card = write_card(make_report(inputs), folder.as_uri())
    (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize(
    "columns", [{"text": "body", "label": "label"}, {"text": "body", "textPair": "reply", "label": "label"}]
)
def test_the_code_for_classification_prints_a_class(
    columns: Mapping[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_classifier(tmp_path)
    run_card_code(make_inputs(run=make_run(columns=dict(columns))), tmp_path)
    assert re.search(r"'label': '(ham|spam)'", capsys.readouterr().out)


def test_the_code_for_chat_models_answers_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_generator(tmp_path)
    run_card_code(make_chat_inputs(), tmp_path)
    assert capsys.readouterr().out.endswith("\n")
