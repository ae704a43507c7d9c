"""What the plan can look at without preparing anything: the model's small files, and rows on this machine.

Everything here answers None rather than fail: a plan says what it cannot know and goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from finetune_cli.local_job import find_folder
from finetune_cli.model_facts import ModelFacts, ReadRange, read_model_facts
from finetune_cli.rows import count_rows
from finetune_contract.spec import DataSource, FineTuneJobSpec

_BUCKETS: Final = ("s3://", "gs://", "az://")


def look_at_model(uri: str, claims: Mapping[str, Path], here: Path) -> tuple[ModelFacts | None, str]:
    """What the model's files say, or None and the reason why they could not be read."""
    folder = find_folder(uri, claims, here)
    try:
        if folder is not None:
            facts = read_model_facts(_folder_reader(folder))
        elif uri.startswith(_BUCKETS):
            facts = read_model_facts(_bucket_reader(uri))
        else:
            return None, f"{uri} is read when data is prepared; name a folder or a bucket to see it in the plan"
    except (OSError, ValueError) as error:
        return None, f"{uri} could not be read: {error}"
    return facts, "" if facts else f"{uri} has no config.json, or is not there"


def count_training_rows(source: DataSource, claims: Mapping[str, Path], here: Path) -> int | None:
    """Rows of the training data, where they lie on this machine in a format that can be counted."""
    folder = find_folder(source.source, claims, here)
    return count_rows(folder, source.format) if folder is not None and folder.exists() else None


def share_split_off(spec: FineTuneJobSpec) -> float:
    """Share of the training rows that becomes validation and test rows."""
    shares = {"validation": spec.data.split.validation, "test": spec.data.split.test}
    return sum(share for part, share in shares.items() if getattr(spec.data, part) is None)


def _folder_reader(folder: Path) -> ReadRange:
    def read(name: str, start: int, length: int | None) -> bytes | None:
        file = folder / name
        if not file.is_file():
            return None
        with file.open("rb") as stream:
            stream.seek(start)
            return stream.read(-1 if length is None else length)

    return read


def _bucket_reader(uri: str) -> ReadRange:
    try:
        from finetune_trainer.errors import FineTuneError
        from finetune_trainer.store.store import Store
    except ImportError as error:
        raise ValueError("install finetune-operator[trainer] to read from buckets") from error

    store = Store.open(uri)

    def read(name: str, start: int, length: int | None) -> bytes | None:
        try:
            if length is not None:
                return store.get_range(name, start, length)
            stored = store.get(name)
        except FineTuneError as error:
            raise ValueError(str(error)) from error
        return stored.data if stored else None

    return read
