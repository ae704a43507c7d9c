"""The whole stage on real files: what workers get, what is refused in which words, what is reused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from finetune_contract.progress import DataPart
from finetune_trainer.errors import DataError, ModelError, StorageAccessError, UserError
from finetune_trainer.results import PreparedPointer
from tests.data_stage.make import Stage, make_rows, make_stage, source_of, write_rows


def test_missing_parts_are_split_off_and_their_rows_recorded(tmp_path: Path, encoder: Path) -> None:
    stage = make_stage(tmp_path, encoder)
    pointer = stage.prepare()
    assert pointer.summary.labels == ("ham", "spam")
    assert {part: figures.rows for part, figures in pointer.summary.parts.items()} == {
        "train": 32,
        "validation": 4,
        "test": 4,
    }
    rows = {part: [row["row"] for row in stage.rows(pointer, part)] for part in pointer.summary.parts}
    assert sorted(rows["train"] + rows["validation"] + rows["test"]) == list(range(40))
    recorded = json.loads((Path(pointer.uri.removeprefix("file://")) / "split.json").read_text())
    assert recorded == {part: rows[part] for part in ("validation", "test")}
    assert {part: record.rows for part, record in stage.prepared(pointer).splits.items()} == {
        "validation": 4,
        "test": 4,
    }


def test_rows_are_encoded_for_the_model_and_named_by_their_place(tmp_path: Path, encoder: Path) -> None:
    stage = make_stage(tmp_path, encoder, spec={"training": {"maxLength": 8}})
    pointer = stage.prepare()
    row = next(row for row in stage.rows(pointer, "train") if row["text"] == "mail 8")
    assert row == {
        "input_ids": [2, 1, 1, 3],
        "token_type_ids": [0, 0, 0, 0],
        "labels": 1,
        "text": "mail 8",
        "length": 4,
        "targets": 1,
        "row": 8,
    }


def test_what_was_left_out_is_counted_by_reason(tmp_path: Path, encoder: Path) -> None:
    rows = [*make_rows(), {"text": "mail  1 ", "label": "ham"}, {"text": "  ", "label": "ham"}]
    test = write_rows(tmp_path / "test.jsonl", [{"text": "mail 3", "label": "spam"}, {"text": "new", "label": "ham"}])
    stage = make_stage(tmp_path, encoder, rows, data={"test": source_of(test), "split": {"validation": 0.0}})
    assert stage.prepare().summary.parts == {
        "train": DataPart(
            rows=39,
            read=42,
            dropped={"duplicate": 1, "too_short": 1, "in_validation_or_test": 1},
            tokens=39 * 4,
            targets=39,
        ),
        "test": DataPart(rows=2, read=2, tokens=7, targets=2),
    }


@pytest.mark.parametrize(("contamination", "rows"), [("drop", 39), ("report", 40), ("ignore", 40)])
def test_leaked_training_rows_are_treated_as_wished(
    tmp_path: Path, encoder: Path, contamination: str, rows: int
) -> None:
    test = write_rows(tmp_path / "test.jsonl", [{"text": "mail 3", "label": "spam"}, {"text": "new", "label": "ham"}])
    data = {"test": source_of(test), "split": {"validation": 0.0}, "contamination": contamination}
    assert make_stage(tmp_path, encoder, data=data).prepare().summary.parts["train"].rows == rows


def test_rows_of_one_group_stay_in_one_part(tmp_path: Path, encoder: Path) -> None:
    rows = [{**row, "author": number % 10} for number, row in enumerate(make_rows())]
    stage = make_stage(tmp_path, encoder, rows, data={"split": {"group": "author"}})
    pointer = stage.prepare()
    authors = {part: {row["row"] % 10 for row in stage.rows(pointer, part)} for part in pointer.summary.parts}
    assert sum(map(len, authors.values())) == len(set.union(*authors.values())) == 10


def test_users_column_names_and_integer_classes_are_followed(tmp_path: Path, encoder: Path) -> None:
    rows = [{"body": f"mail {number}", "kind": number % 3 * 5} for number in range(30)]
    stage = make_stage(tmp_path, encoder, rows, columns={"text": "body", "label": "kind"})
    assert stage.prepare().summary.labels == ("0", "5", "10")


def test_a_folder_of_files_is_read_in_the_order_of_names(tmp_path: Path, encoder: Path) -> None:
    write_rows(tmp_path / "rows" / "b.jsonl", make_rows()[20:])
    write_rows(tmp_path / "rows" / "a.jsonl", make_rows()[:20])
    (tmp_path / "rows" / "README.txt").write_text("not rows")
    stage = make_stage(tmp_path, encoder, tmp_path / "rows", data={"split": {"validation": 0.0, "test": 0.0}})
    rows = stage.rows(stage.prepare(), "train")
    assert [(row["row"], row["text"]) for row in rows] == [(number, f"mail {number}") for number in range(40)]


def test_chats_are_encoded_with_the_assistants_tokens_as_targets(tmp_path: Path, decoder: Path) -> None:
    chats = [
        {"messages": [{"role": "user", "content": f"word{n}"}, {"role": "assistant", "content": f"word{n + 1}"}]}
        for n in range(20)
    ]
    stage = make_stage(tmp_path, decoder, chats, task="text-generation")
    pointer = stage.prepare()
    row = stage.rows(pointer, "train")[0]
    assert (row["targets"], row["labels"][:-2]) == (2, [-100] * (row["length"] - 2))
    assert pointer.summary.labels == ()


def test_equal_settings_share_prepared_data_and_others_do_not(tmp_path: Path, encoder: Path) -> None:
    first = make_stage(tmp_path, encoder).prepare()
    shutil.rmtree(tmp_path / "out" / "job")
    again = make_stage(tmp_path, encoder, tmp_path / "train.jsonl").prepare()
    assert again == first.model_copy(update={"summary": first.summary.model_copy(update={"reused": True})})
    shutil.rmtree(tmp_path / "out" / "job")
    changed: list[dict[str, Any]] = [
        {"split": {"seed": 1}},
        {"clean": {"minCharacters": 2}},
        {"deduplicate": {"method": "none"}},
    ]
    others = {first.uri}
    for data in changed:
        others.add(make_stage(tmp_path, encoder, tmp_path / "train.jsonl", data=data).prepare().uri)
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write('{"text": "one more", "label": "ham"}\n')
    others.add(make_stage(tmp_path, encoder, tmp_path / "train.jsonl").prepare().uri)
    assert len(others) == 5


def test_rows_are_read_over_http(tmp_path: Path, encoder: Path) -> None:
    write_rows(tmp_path / "served" / "train.jsonl", make_rows())
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(tmp_path / "served")))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        uri = f"http://127.0.0.1:{server.server_address[1]}"
        assert _prepare_from(f"{uri}/train.jsonl", tmp_path, encoder).summary.parts["train"].read == 40
        with pytest.raises(StorageAccessError, match=r"data.train.source: .*/none.jsonl cannot be read"):
            _prepare_from(f"{uri}/none.jsonl", tmp_path, encoder)
    finally:
        server.shutdown()
        server.server_close()


def _prepare_from(uri: str, root: Path, encoder: Path) -> PreparedPointer:
    return make_stage(root, encoder, data={"train": {"source": uri}}).prepare()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


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
        {"spec": {"model": {"source": "file:///tmp"}}},
        ModelError,
        "model.source: file:///tmp has no config.json",
        id="no model",
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


def run_command(stage: Stage) -> tuple[int, list[dict[str, Any]]]:
    path = stage.root / "run.json"
    path.write_text(stage.run.to_json())
    command = [sys.executable, "-m", "finetune_trainer.data", "--run", str(path), "--work-dir", str(stage.root / "w")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_the_command_says_json_lines_and_ends_with_the_pointer(tmp_path: Path, encoder: Path) -> None:
    code, said = run_command(make_stage(tmp_path, encoder))
    stages = [line["progress"]["stage"] for line in said if "progress" in line]
    assert code == 0
    assert list(dict.fromkeys(stages)) == [
        "find", "read train", "tokenize train", "tokenize validation", "tokenize test", "store", "model",
    ]  # fmt: skip
    stored = json.loads((tmp_path / "out" / "job" / "prepared.json").read_text())
    assert said[-1] == {"pointer": stored}


def test_the_commands_failure_has_class_reason_and_exit_code(tmp_path: Path, encoder: Path) -> None:
    code, said = run_command(make_stage(tmp_path, encoder, columns={"text": "text", "label": "klass"}))
    failure = said[-1]["failure"]
    assert (code, failure["failureClass"], failure["reason"], failure["exitCode"]) == (10, "User", "DataError", 10)


def test_a_users_mistake_is_told_without_importing_torch(tmp_path: Path, encoder: Path) -> None:
    stage = make_stage(tmp_path, encoder, columns={"text": "text", "label": "klass"})
    (tmp_path / "run.json").write_text(stage.run.to_json())
    program = (
        "import sys; sys.argv = ['data', '--run', sys.argv[1], '--work-dir', sys.argv[2]]\n"
        "from finetune_trainer.data.__main__ import main\n"
        "code = main(); sys.exit(99 if 'torch' in sys.modules else code)"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "run.json", tmp_path / "w"], check=False)
    assert done.returncode == 10
