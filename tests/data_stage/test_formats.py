from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from finetune_trainer.data.formats import find_format, read_file
from finetune_trainer.errors import DataError

ROWS = [{"text": 'a, "b"\nc', "label": 1}, {"text": "ü", "label": 2}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def write_arrow(path: Path, stream: bool) -> None:
    table = pa.Table.from_pylist(ROWS)
    make = pa.ipc.new_stream if stream else pa.ipc.new_file
    with make(str(path), table.schema) as writer:
        writer.write_table(table)


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.jsonl": lambda path: path.write_bytes(LINES),
    "a.json": lambda path: path.write_bytes(b"\n" + LINES),
    "a.jsonl.gz": lambda path: path.write_bytes(gzip.compress(LINES)),
    "a.jsonl.zst": lambda path: path.write_bytes(zstandard.compress(LINES)),
    "a.parquet": lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path),
    "a.arrow": lambda path: write_arrow(path, stream=True),
    "b.arrow": lambda path: write_arrow(path, stream=False),
}


@pytest.mark.parametrize("name", WRITERS)
def test_rows_come_back_from_every_format(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    kind = find_format(name)
    assert kind is not None
    assert [row for _, row in read_file(tmp_path / name, kind, name)] == ROWS


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_csv_fields_are_text_and_lines_are_counted_in_the_file(tmp_path: Path, name: str) -> None:
    content = b'\xef\xbb\xbftext,label\n"a, ""b""\nc",1\n\xc3\xbc,2\n'
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert list(read_file(tmp_path / name, "csv", name)) == [
        (3, {"text": 'a, "b"\nc', "label": "1"}),
        (4, {"text": "ü", "label": "2"}),
    ]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": \n', "s3://x/a.jsonl line 2: this is not a JSON object (Expecting value)"),
        ("a.jsonl", b"[1]\n", "s3://x/a.jsonl line 1: found a list; write one JSON object a line"),
        ("a.jsonl", b'{"a": "\xff"}\n', "s3://x/a.jsonl line 1: this is not a JSON object"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", "s3://x/a.csv line 3: the row has more fields than the header"),
        ("a.csv", b"a,b\n1,\xff\n", "s3://x/a.csv line 1: the text is not UTF-8"),
        ("a.parquet", b"nonsense", "s3://x/a.parquet: the file cannot be read as parquet"),
        ("a.arrow", b"nonsense", "s3://x/a.arrow: the file cannot be read as arrow"),
        ("a.jsonl.gz", b"nonsense", "s3://x/a.jsonl.gz: the file cannot be read as jsonl"),
        ("a.jsonl.zst", b"nonsense", "s3://x/a.jsonl.zst: the file cannot be read as jsonl"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    kind: Any = find_format(name)
    with pytest.raises(DataError) as raised:
        list(read_file(tmp_path / name, kind, f"s3://x/{name}"))
    assert str(raised.value).startswith(words)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("A.CSV.GZ", "csv"), ("x.ndjson.zst", "jsonl"), ("x.txt", None), ("README", None), ("x.gz", None)],
)
def test_the_format_is_known_by_the_name(name: str, kind: str | None) -> None:
    assert find_format(name) == kind
