"""Rows of a local file: jsonl, csv, parquet or arrow, plain or compressed. Every row comes with its place."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from finetune_trainer.errors import DataError

Format = Literal["jsonl", "csv", "parquet", "arrow"]
Row = dict[str, Any]
PlacedRow = tuple[int, Row]
"""Line (jsonl, csv) or row number (parquet, arrow), counted from 1, and the row."""

EXTENSIONS: Final[dict[str, Format]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
COMPRESSIONS: Final = (".gz", ".zst")
PLACES: Final[dict[Format, str]] = {"jsonl": "line", "csv": "line", "parquet": "row", "arrow": "row"}
"""What the number of a row counts."""

csv.field_size_limit(sys.maxsize)


def find_format(name: str) -> Format | None:
    """The format by a file's name; None where the name does not say."""
    lowered = name.lower()
    for compression in COMPRESSIONS:
        lowered = lowered.removesuffix(compression)
    return next((kind for extension, kind in EXTENSIONS.items() if lowered.endswith(extension)), None)


def read_file(path: Path, kind: Format, uri: str) -> Iterator[PlacedRow]:
    """The rows of a file. Raises `DataError` that names file and line where it cannot be read as its format."""
    try:
        with _open(path, uri) as stream:
            yield from READERS[kind](stream, uri)
    except (OSError, EOFError, zstandard.ZstdError, pa.ArrowException, csv.Error) as error:
        raise DataError(
            f"{uri}: the file cannot be read as {kind} ({_first_line(error)}); check the file, or set data.*.format"
        ) from error


def _open(path: Path, uri: str) -> BinaryIO:
    if uri.endswith(".gz"):
        return io.BufferedReader(gzip.open(path, "rb"))
    if uri.endswith(".zst"):
        return io.BufferedReader(zstandard.open(path, "rb"))
    return path.open("rb")


def _make_seekable(stream: BinaryIO) -> BinaryIO:
    return stream if stream.seekable() else io.BytesIO(stream.read())


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _read_jsonl(stream: BinaryIO, uri: str) -> Iterator[PlacedRow]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise DataError(
                f"{uri} line {number}: this is not a JSON object ({reason}); write one object a line"
            ) from error
        if not isinstance(row, dict):
            raise DataError(f"{uri} line {number}: found a {type(row).__name__}; write one JSON object a line")
        yield number, row


def _read_csv(stream: BinaryIO, uri: str) -> Iterator[PlacedRow]:
    reader = csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""), strict=True)
    try:
        for row in reader:
            if None in row:
                raise DataError(
                    f"{uri} line {reader.line_num}: the row has more fields than the header; quote fields with commas"
                )
            yield reader.line_num, dict(row)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{uri} line {reader.line_num + 1}: the text is not UTF-8 ({error}); convert the file"
        ) from error


def _read_parquet(stream: BinaryIO, uri: str) -> Iterator[PlacedRow]:
    yield from _number(pq.ParquetFile(_make_seekable(stream)).iter_batches())


def _read_arrow(stream: BinaryIO, uri: str) -> Iterator[PlacedRow]:
    """Arrow's streaming format, as `datasets` writes it, or its file format."""
    data = _make_seekable(stream)
    try:
        yield from _number(iter(pa.ipc.open_stream(data)))
    except pa.ArrowInvalid:
        data.seek(0)
        reader = pa.ipc.open_file(data)
        yield from _number(reader.get_batch(index) for index in range(reader.num_record_batches))


def _number(batches: Iterator[pa.RecordBatch]) -> Iterator[PlacedRow]:
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            number += 1
            yield number, row


READERS: Final[dict[Format, Callable[[BinaryIO, str], Iterator[PlacedRow]]]] = {
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "parquet": _read_parquet,
    "arrow": _read_arrow,
}
