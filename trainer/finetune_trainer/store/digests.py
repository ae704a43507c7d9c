"""SHA-256 of files and texts, and the record of one file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

from pydantic import Field

from finetune_contract.document import Document


class FileDigest(Document):
    """What identifies one file's content."""

    size: Annotated[int, Field(ge=0)]
    """Bytes."""
    sha256: Annotated[str, Field(min_length=64, max_length=64)]
    """Hexadecimal SHA-256."""


def digest_file(path: Path) -> FileDigest:
    """Size and SHA-256 of a local file."""
    with path.open("rb") as file:
        state = hashlib.file_digest(file, "sha256")
    return FileDigest(size=path.stat().st_size, sha256=state.hexdigest())


def sha256_text(data: bytes) -> str:
    """SHA-256 as the contract writes it: sha256:hex."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
