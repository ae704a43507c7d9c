"""How many rows lie in files on this machine, for the plan. Counts only; reading rows is the trainer's."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import TextIO, cast

FORMATS = {".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet"}


def count_rows(path: Path, data_format: str | None) -> int | None:
    """Rows of a file or of all files in a folder; None where it is missing or of a format that is not counted here."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    counts = [_count_file(file, data_format) for file in files if file.is_file() and not file.name.startswith(".")]
    if not counts or None in counts:
        return None
    return sum(count for count in counts if count is not None)


def _count_file(file: Path, data_format: str | None) -> int | None:
    name = file.name.removesuffix(".gz")
    kind = data_format or FORMATS.get(Path(name).suffix)
    try:
        if kind == "parquet":
            return _count_parquet(file)
        if kind in ("jsonl", "csv"):
            with _open(file) as stream:
                return sum(1 for line in stream if line.strip()) if kind == "jsonl" else _count_csv(stream)
    except (OSError, ValueError, csv.Error):
        return None  # data preparation says what is wrong with a file
    return None


def _open(file: Path) -> TextIO:
    if file.suffix == ".gz":
        return cast(TextIO, gzip.open(file, "rt", encoding="utf-8", newline=""))
    return file.open(encoding="utf-8", newline="")


def _count_csv(stream: TextIO) -> int:
    return max(sum(1 for row in csv.reader(stream) if row) - 1, 0)


def _count_parquet(file: Path) -> int | None:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError:
        return None  # the trainer's dependencies are not installed here
    try:
        return int(parquet.read_metadata(file).num_rows)
    except ArrowInvalid:
        return None
