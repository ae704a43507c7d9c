"""The whole stage on real files: what workers get, what is refused in which words, what is reused."""

from __future__ import annotations

import json
import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from finetune_contract.progress import DataPart
from finetune_trainer.errors import StorageAccessError
from finetune_trainer.results import PreparedPointer
from tests.data_stage.make import make_rows, make_stage, source_of, write_rows


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


def test_rows_that_judge_the_model_are_counted_as_often_as_the_user_wrote_them(tmp_path: Path, encoder: Path) -> None:
    test = write_rows(tmp_path / "test.jsonl", [{"text": "new", "label": "ham"}] * 3)
    stage = make_stage(tmp_path, encoder, data={"test": source_of(test), "split": {"validation": 0.0}})
    assert stage.prepare().summary.parts["test"] == DataPart(rows=3, read=3, tokens=9, targets=3)


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
