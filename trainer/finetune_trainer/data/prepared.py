"""The prepared data on disk: what preparation writes and workers, publisher and tests read. Must not import torch.

prepared.json        this module's document, written last
split.json           row ids of the parts that were split off
train/, validation/, test/      Arrow tables (datasets' save_to_disk), one row a sample, with the columns below
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from finetune_contract.document import Document
from finetune_contract.names import FILE_PREPARED
from finetune_contract.progress import DataSummary

COLUMN_ROW: Final = "row"
"""Row id: position of the row in its source, counted over all files from 0."""
COLUMN_LENGTH: Final = "length"
"""Input tokens of the row."""
COLUMN_TARGETS: Final = "targets"
"""Number of targets that the loss looks at: what a global batch's loss is divided by."""

PARTS: Final[tuple[str, ...]] = ("train", "validation", "test")
FILE_SPLIT: Final = "split.json"


class SplitRecord(Document):
    """Which training rows became a part of their own."""

    rows: int
    digest: str
    """SHA-256 of the row ids, as sha256:hex; the ids stand in split.json and in the part's column `row`."""


class PreparedData(Document):
    """prepared.json of a folder of prepared data."""

    summary: DataSummary
    splits: dict[str, SplitRecord] = {}
    """Parts that were split off the training rows."""
    settings: dict[str, str] = {}
    """What the fingerprint was computed from, in readable form."""


def read_prepared(folder: Path) -> PreparedData:
    """Read prepared.json of a folder of prepared data."""
    return PreparedData.from_json((folder / FILE_PREPARED).read_bytes())
