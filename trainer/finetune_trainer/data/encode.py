"""Encoding parts for the model by the task's own function, and writing them as workers read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar

from finetune_contract.progress import DataPart
from finetune_trainer.data.prepared import COLUMN_LENGTH, COLUMN_ROW, COLUMN_TARGETS
from finetune_trainer.data.table import GROUP, Table
from finetune_trainer.errors import DataError, UserError
from finetune_trainer.tasks.task import Encoding, Task, Tokenizer

BATCH_ROWS: Final = 1000
TRUNCATED: Final = "truncated"
MASKED: Final = "nothing_to_learn"


def encode_part(
    table: Table, task: Task, tokenizer: Tokenizer, encoding: Encoding, report: Callable[[int], None]
) -> tuple[Any, DataPart]:
    """A part as columns of prepared data, rows without any target left out and counted, and its figures."""
    batches = []
    done = 0
    for batch in table.rows.to_batches(max_chunksize=BATCH_ROWS):
        columns = {name: batch[name].to_pylist() for name in batch.schema.names if name not in (COLUMN_ROW, GROUP)}
        encoded = _encode_rows(columns, batch[COLUMN_ROW], task, tokenizer, encoding)
        batches.append(_make_batch(encoded, batch[COLUMN_ROW]))
        done += batch.num_rows
        report(done)
    whole = pa.concat_tables(batches)
    learnable = whole.filter(pc.greater(whole[COLUMN_TARGETS], 0))
    masked = whole.num_rows - learnable.num_rows
    return learnable.drop_columns([TRUNCATED]), DataPart(
        rows=learnable.num_rows,
        read=table.read,
        dropped={**table.dropped, **({MASKED: masked} if masked else {})},
        tokens=_sum(learnable[COLUMN_LENGTH]),
        targets=_sum(learnable[COLUMN_TARGETS]),
        truncated=_sum(learnable[TRUNCATED]),
        split_off=table.split_off,
    )


def _encode_rows(
    columns: dict[str, list[Any]], rows: Any, task: Task, tokenizer: Tokenizer, encoding: Encoding
) -> dict[str, list[Any]]:
    try:
        return task.encode(columns, tokenizer, encoding)
    except UserError:
        for position, row in enumerate(rows.to_pylist()):
            try:
                task.encode({name: [values[position]] for name, values in columns.items()}, tokenizer, encoding)
            except UserError as error:
                raise DataError(f"row {row} (counted from 0 over all files): {error}") from error
        raise


def check_masked(part: str, figures: DataPart, max_masked_share: float, max_length: int) -> None:
    """Raise `DataError` where too many rows of a part have nothing to learn from."""
    masked = figures.dropped.get(MASKED, 0)
    total = figures.rows + masked
    if not figures.rows or masked > max_masked_share * total:
        raise DataError(
            f"data.{part}: {masked} of {total} rows ({100 * masked / max(1, total):.0f} %) have nothing to learn from: "
            f"all their targets are masked or cut off at {max_length} tokens; raise training.maxLength, check "
            "data.columns, or raise data.maxMaskedShare"
        )


def write_part(encoded: Any, folder: Path) -> None:
    """Write a part as `datasets` reads it, memory-mapped."""
    disable_progress_bar()
    Dataset(encoded).save_to_disk(str(folder))


def _make_batch(encoded: dict[str, list[Any]], rows: Any) -> Any:
    columns = {name: _make_array(values) for name, values in encoded.items()}
    return pa.table({**columns, COLUMN_ROW: rows})


def _make_array(values: list[Any]) -> Any:
    array = pa.array(values)
    # Token numbers need 32 bits; strings of one part may need more than 31 bits of offsets.
    if pa.types.is_list(array.type) and pa.types.is_integer(array.type.value_type):
        return array.cast(pa.list_(pa.int32()))
    return array.cast(pa.large_string()) if pa.types.is_string(array.type) else array


def _sum(column: Any) -> int:
    return int(pc.sum(column).as_py() or 0)
