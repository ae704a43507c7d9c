"""The sources of all parts: where rows come from, what identifies them, and their rows one after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_contract.spec import DataSource, DataSpec
from finetune_trainer.data import hub
from finetune_trainer.data.files import DataFile, find_files
from finetune_trainer.data.formats import PLACES, read_file


@dataclass(frozen=True)
class Source:
    """One part's source, found and not yet read."""

    part: str
    spec: DataSource
    files: tuple[DataFile, ...]
    revision: str
    """Commit of a Hub data set; empty for files."""

    @property
    def identity(self) -> tuple[str, ...]:
        """What changes when the rows do."""
        if self.revision:
            return (self.spec.source, self.spec.split or self.part, self.revision)
        return tuple(f"{file.uri} {file.kind} {file.identity}" for file in self.files)


def find_sources(data: DataSpec) -> tuple[Source, ...]:
    """The sources that the job names. First contact with their storage: raises `StorageAccessError`, `DataError`."""
    named = {"train": data.train, "validation": data.validation, "test": data.test}
    return tuple(_find(part, source) for part, source in named.items() if source is not None)


def iterate_rows(source: Source, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every row with its place in words, e.g. `s3://ml/train.jsonl line 17`. Files are fetched as they are reached."""
    if source.revision:
        rows = hub.read_dataset(source.spec, source.part, source.revision)
        yield from ((f"{source.spec.source} row {number}", row) for number, row in enumerate(rows, start=1))
        return
    for file in source.files:
        path, place = file.fetch(folder / source.part), PLACES[file.kind]
        yield from ((f"{file.uri} {place} {number}", row) for number, row in read_file(path, file.kind, file.uri))


def _find(part: str, source: DataSource) -> Source:
    if source.source.startswith("hf://"):
        return Source(part, source, (), hub.find_dataset_revision(source, part))
    return Source(part, source, find_files(source, part), "")
