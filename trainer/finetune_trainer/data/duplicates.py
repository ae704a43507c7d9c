"""Repeated rows: within a part, and between training rows and those that judge the model. Pure.

Two texts are equal when they are after Unicode and white space normalisation; a row is its 64-bit digest.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finetune_trainer.data.columns import INPUTS

Digests = NDArray[np.uint64]
Positions = NDArray[np.int64]

SPACE: Final = re.compile(r"\s+")


def digest_row(values: Mapping[str, str]) -> int:
    """Digest of a whole row, its class included."""
    return _digest(values[column] for column in sorted(values))


def digest_input(values: Mapping[str, str]) -> int:
    """Digest of what a row is about, without its class."""
    return _digest(values[column] for column in INPUTS if column in values)


def find_first(digests: Digests) -> Positions:
    """Positions of the rows that are the first of their kind, in order."""
    _, first = np.unique(digests, return_index=True)
    return np.sort(first).astype(np.int64)


def find_shared(digests: Digests, others: Iterable[Digests]) -> NDArray[np.bool_]:
    """Which rows also stand in one of the other parts."""
    shared = np.zeros(len(digests), dtype=np.bool_)
    for other in others:
        shared |= np.isin(digests, other)
    return shared


def _digest(texts: Iterable[str]) -> int:
    state = hashlib.blake2b(digest_size=8)
    for text in texts:
        state.update(SPACE.sub(" ", unicodedata.normalize("NFC", text)).strip().encode("utf-8", "surrogatepass"))
        state.update(b"\x00")
    return int.from_bytes(state.digest(), "big")
