"""The parts as they go on: missing ones split off, leaked rows out, classes known, nothing empty. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from finetune_contract.spec import DataSpec
from finetune_trainer.data.columns import order_labels
from finetune_trainer.data.duplicates import find_shared
from finetune_trainer.data.split import TRAIN, split_rows
from finetune_trainer.data.table import GROUP, Table
from finetune_trainer.errors import DataError

JUDGES: Final = ("validation", "test")
CONTAMINATED: Final = "in_validation_or_test"
LABEL: Final = "label"
NAMES_SHOWN: Final = 10

Tables = dict[str, Table]


def split_off_missing(tables: Tables, data: DataSpec) -> Tables:
    """Validation and test rows from the training rows where the job names no source for them.

    Raises `DataError` where there are too few rows.
    """
    shares = {"validation": data.split.validation, "test": data.split.test}
    wanted = {part: share for part, share in shares.items() if part not in tables and share > 0}
    if not wanted:
        return tables
    train = tables[TRAIN]
    stratify = data.split.stratify and LABEL in train.rows.column_names
    positions = split_rows(
        len(train),
        wanted,
        data.split.seed,
        classes=train.values(LABEL) if stratify else None,
        groups=train.values(GROUP) if data.split.group is not None else None,
    )
    for part in wanted:
        if not positions[part]:
            raise DataError(
                f"data.split.{part}: {len(train)} training rows are too few to split any off; add rows, name a source "
                f"for data.{part}, or set data.split.{part} to 0"
            )
    parts = {part: train.take(positions[part]) for part in (TRAIN, *wanted)}
    made = {part: replace(parts[part], read=0, dropped={}, split_off=True) for part in wanted}
    return {**tables, **made, TRAIN: parts[TRAIN]}


def drop_contaminated(tables: Tables, data: DataSpec) -> tuple[Tables, int]:
    """Training rows that also stand in validation or test rows: left out, or only counted, as the job wishes."""
    if data.contamination == "ignore":
        return tables, 0
    train = tables[TRAIN]
    shared = find_shared(train.inputs, [tables[part].inputs for part in JUDGES if part in tables])
    count = int(np.count_nonzero(shared))
    if data.contamination == "report" or not count:
        return tables, count
    return {**tables, TRAIN: train.drop(~shared, CONTAMINATED)}, count


def check_rows(tables: Tables) -> None:
    """Raise `DataError` where a part has no rows left."""
    for part, table in tables.items():
        if not len(table):
            reasons = ", ".join(f"{count} {reason}" for reason, count in table.dropped.items()) or "none dropped"
            raise DataError(
                f"data.{part}: no rows are left of {table.read} that were read ({reasons}); "
                "name other data, or relax data.clean, data.deduplicate or data.contamination"
            )


def find_labels(tables: Mapping[str, Table]) -> tuple[str, ...]:
    """Class names in the order of the model's ids; empty where the task has no classes.

    Raises `DataError` for a single class, and for classes that are judged but never trained.
    """
    if LABEL not in tables[TRAIN].rows.column_names:
        return ()
    trained = set(tables[TRAIN].values(LABEL))
    if len(trained) == 1:
        raise DataError(
            f"data.columns.label: every training row has the class '{next(iter(trained))}', so there is nothing to "
            "tell apart; name a column with at least two classes"
        )
    for part in JUDGES:
        unknown = Counter(tables[part].values(LABEL)) if part in tables else Counter()
        for label in trained:
            del unknown[label]
        if unknown:
            names = ", ".join(f"'{label}' ({count})" for label, count in unknown.most_common(NAMES_SHOWN))
            raise DataError(
                f"data.{part}: {sum(unknown.values())} rows have classes that no training row has: {names}; "
                "correct the spelling, add training rows, or remove these rows"
            )
    return order_labels(trained)
