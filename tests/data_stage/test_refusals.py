"""What the user must mend, each in one sentence that names the field or the row and the remedy."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.errors import DataError, ModelError, StorageAccessError, UserError
from tests.data_stage.make import make_rows, make_stage, source_of, write_rows

CHAT = {"messages": [{"role": "user", "content": "word1 word2"}, {"role": "assistant", "content": "word3"}]}
REFUSALS: list[Any] = [
    pytest.param(
        {"columns": {"text": "text", "label": "klass"}},
        DataError,
        r"data.columns.label: column 'klass' is not in file://.*/train.jsonl; found: text, label. Set data",
        id="missing column",
    ),
    pytest.param(
        {"train": [*make_rows(5), {"text": "a", "label": None}]},
        DataError,
        r"file://.*/train.jsonl line 6: column 'label' holds nothing where a class",
        id="bad row",
    ),
    pytest.param(
        {"train": [{"text": f"mail {number}", "label": "x"} for number in range(9)]},
        DataError,
        "data.columns.label: every training row has the class 'x'",
        id="single class",
    ),
    pytest.param(
        {"train": make_rows(2)},
        DataError,
        "data.split.validation: 2 training rows are too few to split any off; add rows, name a source",
        id="too few",
    ),
    pytest.param(
        {"data": {"clean": {"minCharacters": 100}}},
        DataError,
        r"data.train: no rows are left of 40 that were read \(40 too_short\)",
        id="nothing left",
    ),
    pytest.param(
        {"data": {"split": {"group": "author"}}},
        DataError,
        r"data.split.group: column 'author' is not in file://.*; found: text, label",
        id="missing group",
    ),
    pytest.param(
        {"data": {"train": {"source": "file:///nowhere/train.jsonl"}}},
        StorageAccessError,
        "data.train.source: file:///nowhere/train.jsonl does not exist",
        id="missing file",
    ),
    pytest.param(
        {"data": {"deduplicate": {"method": "near"}}},
        UserError,
        "data.deduplicate.method: near is not supported yet",
        id="not yet supported",
    ),
    pytest.param(
        {"spec": {"training": {"maxLength": 65}}},
        ModelError,
        "training.maxLength: 65 tokens are more than the model's 64",
        id="too long",
    ),
    pytest.param(
        {"spec": {"evaluation": {"gate": [{"metric": "bleu", "min": 1.0}]}}},
        UserError,
        r"evaluation.gate\[0\].metric: task text-classification has no metric 'bleu'; use one of accuracy, f1",
        id="unknown metric",
    ),
]


@pytest.mark.parametrize(("changes", "error", "words"), REFUSALS)
def test_what_the_user_must_mend_is_said_in_one_sentence(
    tmp_path: Path, encoder: Path, changes: dict[str, Any], error: type[UserError], words: str
) -> None:
    stage = make_stage(tmp_path, encoder, **changes)
    with pytest.raises(error, match=words):
        stage.prepare()
    assert not (tmp_path / "out" / "job" / "prepared.json").exists()


def test_a_folder_without_a_model_is_refused(tmp_path: Path, encoder: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "notes.txt").write_text("not a model")
    with pytest.raises(ModelError, match=r"model.source: file://.*/notes has no config.json"):
        make_stage(tmp_path, encoder, spec={"model": {"source": f"file://{folder}"}}).prepare()


def test_an_empty_file_is_refused(tmp_path: Path, encoder: Path) -> None:
    (tmp_path / "train.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"data.train.source: file://.* has no rows"):
        make_stage(tmp_path, encoder, tmp_path / "train.jsonl").prepare()


def test_classes_that_are_judged_and_never_trained_are_named(tmp_path: Path, encoder: Path) -> None:
    test = write_rows(tmp_path / "test.jsonl", [{"text": "x", "label": "Spam"}, {"text": "y", "label": "ham"}])
    with pytest.raises(DataError, match=r"data.test: 1 rows have classes that no training row has: 'Spam' \(1\)"):
        make_stage(tmp_path, encoder, data={"test": source_of(test)}).prepare()


def test_too_many_rows_with_nothing_to_learn_are_refused(tmp_path: Path, decoder: Path) -> None:
    long = {"messages": [{"role": "user", "content": "word1 " * 30}, {"role": "assistant", "content": "word3"}]}
    chats = [{"messages": [*CHAT["messages"], {"role": "user", "content": f"word{n}"}]} for n in range(20)]
    spec = {"training": {"maxLength": 16}}
    data = {"split": {"validation": 0.0, "test": 0.0}}
    stage = make_stage(tmp_path, decoder, [*chats, long], task="text-generation", data=data, spec=spec)
    assert stage.prepare().summary.parts["train"].dropped == {"nothing_to_learn": 1}
    stage = make_stage(
        tmp_path, decoder, [*chats, long], task="text-generation", data={**data, "maxMaskedShare": 0.01}, spec=spec
    )
    with pytest.raises(DataError, match=r"data.train: 1 of 21 rows \(5 %\) have nothing to learn from"):
        stage.prepare()


def test_a_row_that_the_models_template_refuses_is_named(tmp_path: Path, decoder: Path) -> None:
    shutil.copytree(decoder, tmp_path / "model")
    template = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    (tmp_path / "model" / "chat_template.jinja").write_text(template + "{{ m.content }}{% endfor %}")
    chats = [CHAT, {"messages": [{"role": "system", "content": "word9"}, *CHAT["messages"]]}]
    data = {"split": {"validation": 0.0, "test": 0.0}}
    stage = make_stage(tmp_path, tmp_path / "model", chats, task="text-generation", data=data)
    with pytest.raises(DataError, match=r"row 1 \(counted from 0 over all files\): .*refuses a row: no system"):
        stage.prepare()
