"""Reading one part into a table: cleaned, checked row by row, repeated rows left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from finetune_contract.spec import DataSpec
from finetune_trainer.data.clean import clean_values, is_too_short
from finetune_trainer.data.columns import Values, check_columns, read_values
from finetune_trainer.data.duplicates import Digests, digest_input, digest_row, find_first
from finetune_trainer.data.sources import Source, iterate_rows
from finetune_trainer.errors import DataError

CHUNK_ROWS: Final = 4096
GROUP: Final = "group"
ROW: Final = "row"
Report = Callable[[int], None]


@dataclass(frozen=True)
class Table:
    """One part: the task's columns as text, `row` ids, `group` where the split asks for it."""

    rows: Any
    """pyarrow.Table."""
    inputs: Digests
    """Digest of what each row is about."""
    read: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    split_off: bool = False

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, positions: Any) -> Table:
        """Some of its rows."""
        chosen = np.asarray(positions, dtype=np.int64)
        return replace(self, rows=self.rows.take(pa.array(chosen)), inputs=self.inputs[chosen])

    def drop(self, keep: Any, reason: str) -> Table:
        """The rows at which `keep` is true; the others are counted."""
        kept = self.take(np.flatnonzero(keep))
        return replace(kept, dropped=Counter(self.dropped) + Counter({reason: len(self) - len(kept)}))

    def values(self, column: str) -> list[str]:
        """One column."""
        found: list[str] = self.rows[column].to_pylist()
        return found


def peek_columns(source: Source, columns: Mapping[str, str], data: DataSpec, folder: Path) -> None:
    """Look at the first row only. Raises `DataError` for a missing column, before anything else is done."""
    place, row = next(iterate_rows(source, folder), ("", None))
    if row is None:
        raise DataError(f"data.{source.part}.source: {source.spec.source} has no rows; name other data")
    uri = place.rpartition(" ")[0].rpartition(" ")[0]
    check_columns(columns, row, uri)
    if data.split.group is not None and data.split.group not in row:
        raise DataError(f"data.split.group: column '{data.split.group}' is not in {uri}; found: {', '.join(row)}")


def read_table(source: Source, columns: Mapping[str, str], data: DataSpec, folder: Path, report: Report) -> Table:
    """All rows of a part. Raises `DataError` that names file and line of the first row that cannot be used."""
    dropped: Counter[str] = Counter()
    chunks, inputs, digests = [], [], []
    read = 0
    numbered = enumerate(_read_rows(source, columns, data, folder))
    while chunk := list(islice(numbered, CHUNK_ROWS)):
        read += len(chunk)
        kept = [(row, values, group) for row, (values, group) in chunk if not is_too_short(values, data.clean)]
        dropped["too_short"] += len(chunk) - len(kept)
        chunks.append(_make_chunk(kept, columns))
        inputs += [digest_input(values) for _, values, _ in kept]
        digests += [digest_row(values) for _, values, _ in kept]
        report(read)
    table = Table(
        rows=pa.concat_tables(chunks) if chunks else _make_chunk([], columns),
        inputs=np.array(inputs, dtype=np.uint64),
        read=read,
        dropped=+dropped,
    )
    # Rows that the user names to judge the model count as often as they stand there: whoever counts them after us
    # finds the same figures.
    if data.deduplicate.method == "none" or source.part != "train":
        return table
    first = np.zeros(len(table), dtype=np.bool_)
    first[find_first(np.array(digests, dtype=np.uint64))] = True
    return table.drop(first, "duplicate")


def _read_rows(
    source: Source, columns: Mapping[str, str], data: DataSpec, folder: Path
) -> Iterator[tuple[Values, str]]:
    for place, row in iterate_rows(source, folder):
        group = str(row.get(data.split.group, "")) if data.split.group is not None else ""
        yield clean_values(read_values(row, columns, place), data.clean), group


def _make_chunk(kept: list[tuple[int, Values, str]], columns: Mapping[str, str]) -> Any:
    return pa.table(
        {
            ROW: pa.array([row for row, _, _ in kept], pa.int64()),
            GROUP: pa.array([group for _, _, group in kept], pa.large_string()),
            **{name: pa.array([values[name] for _, values, _ in kept], pa.large_string()) for name in columns},
        }
    )
