"""The fingerprint: equal data, settings and tokenizer share prepared data. Pure, but reads the tokenizer's files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from finetune_contract.run import RunConfig

VERSION: Final = 2
"""Raised when preparation itself changes what it makes of the same data."""
TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)


def describe_settings(
    run: RunConfig, sources: Mapping[str, tuple[str, ...]], tokenizer_digest: str, max_length: int
) -> dict[str, Any]:
    """Everything that prepared data depends on."""
    data = run.spec.data
    return {
        "version": VERSION,
        "task": run.spec.task,
        "columns": run.resolved.columns,
        "sources": {part: list(identity) for part, identity in sources.items()},
        "split": data.split.to_data(),
        "clean": data.clean.to_data(),
        "deduplicate": data.deduplicate.to_data(),
        "contamination": data.contamination,
        "tokenizer": tokenizer_digest,
        "maxLength": max_length,
    }


def compute_fingerprint(settings: Mapping[str, Any]) -> str:
    """The settings' digest, short enough for a folder's name: 32 hex digits."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def digest_tokenizer(folder: Path) -> str:
    """Digest of the files that decide how text becomes tokens, chat template included."""
    state = hashlib.sha256()
    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            state.update(name.encode() + b"\x00" + hashlib.sha256((folder / name).read_bytes()).digest())
    return state.hexdigest()
