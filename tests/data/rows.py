"""Rows to JSONL files, split once and always the same way."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

Row = Mapping[str, object]


def write_jsonl(path: Path, rows: Iterable[Row]) -> Path:
    """Write one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def write_split(folder: Path, rows: Iterable[Row], held_out: float = 0.1, seed: int = 0) -> dict[str, Path]:
    """Write ``train.jsonl`` and ``test.jsonl`` from rows shuffled with a fixed seed."""
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    count = int(len(shuffled) * held_out)
    parts = {"test": shuffled[:count], "train": shuffled[count:]}
    return {part: write_jsonl(folder / f"{part}.jsonl", content) for part, content in parts.items()}
