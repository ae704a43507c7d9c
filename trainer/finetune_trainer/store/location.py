"""Where a URI points: bucket and prefix, or a folder of this machine. Pure; must not touch the storage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finetune_contract import names
from finetune_trainer.errors import StorageAccessError

Scheme = Literal["s3", "gs", "az", "file", "pvc"]
SCHEMES: tuple[Scheme, ...] = ("s3", "gs", "az", "file", "pvc")


@dataclass(frozen=True)
class Location:
    """A folder of object storage."""

    uri: str
    scheme: Scheme
    bucket: str
    """Bucket, container or claim; empty for file://."""
    prefix: str
    """Folder in the bucket without slashes at its ends; empty for folders of this machine."""
    folder: Path | None
    """The folder, for file:// and pvc://."""
    root: Path | None
    """What must exist already: the claim's mount; None for buckets and file://."""


def locate(uri: str, claims: Path = Path(names.PVC_DIR)) -> Location:
    """Take a URI apart; claims are mounted below `claims` (`finetune run` turns pvc:// into file:// before).

    Raises StorageAccessError when the scheme is unknown or a part is missing.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, path = rest.partition("/")
    if scheme == "file":
        if bucket:
            raise StorageAccessError(f"{uri}: a file:// address needs an absolute path; write file:///{rest}")
        return Location(uri, "file", "", "", Path("/" + path.strip("/")), None)
    if scheme not in SCHEMES:
        raise StorageAccessError(f"{uri}: scheme {scheme!r} is unknown; use s3://, gs://, az://, pvc:// or file://")
    if not bucket:
        raise StorageAccessError(f"{uri}: the bucket's name is missing; write {scheme}://name/folder")
    if scheme == "pvc":
        root = claims / bucket
        return Location(uri, "pvc", bucket, "", root / path.strip("/"), root)
    return Location(uri, scheme, bucket, path.strip("/"), None, None)
