"""The bucket of the end-to-end tests, seen from outside: what is put in before a job, what lies there after it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.store import S3Store


@dataclass(frozen=True)
class Bucket:
    """One bucket, by a client of its own (never by the code under test)."""

    name: str
    environment: dict[str, str]

    def put_file(self, path: Path, key: str) -> None:
        """Upload a file."""
        obstore.put(self.open(), key, path)

    def put_folder(self, folder: Path, prefix: str) -> None:
        """Upload all files of a folder."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put_file(path, f"{prefix}/{path.relative_to(folder)}")

    def keys(self, uri: str) -> list[str]:
        """Keys below a s3:// URI, relative to it."""
        prefix = self._key(uri)
        found = obstore.list(self.open(), prefix=prefix).collect()
        return sorted(str(item["path"])[len(prefix) + 1 :] for item in found)

    def read_json(self, uri: str) -> Any:
        """A JSON object."""
        return json.loads(self.read(uri))

    def read(self, uri: str) -> bytes:
        """An object's bytes."""
        return bytes(obstore.get(self.open(), self._key(uri)).bytes())

    def write(self, uri: str, content: bytes) -> None:
        """Put an object, in the place of what was there."""
        obstore.put(self.open(), self._key(uri), content)

    def delete(self, uri: str) -> None:
        """Remove an object."""
        obstore.delete(self.open(), self._key(uri))

    def download(self, uri: str, folder: Path) -> Path:
        """Download everything below a s3:// URI."""
        prefix = self._key(uri)
        for key in self.keys(uri):
            target = folder / key
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.read(f"s3://{self.name}/{prefix}/{key}"))
        return folder

    def _key(self, uri: str) -> str:
        head = f"s3://{self.name}/"
        assert uri.startswith(head), f"{uri} does not lie in bucket {self.name}"
        return uri[len(head) :].rstrip("/")

    def open(self, *, max_retries: int = 10, retry_timeout: timedelta = timedelta(minutes=3)) -> S3Store:
        """A client."""
        return S3Store(
            self.name,
            endpoint=self.environment["AWS_ENDPOINT_URL"],
            access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            region=self.environment["AWS_REGION"],
            client_options={"allow_http": True},
            retry_config={"max_retries": max_retries, "retry_timeout": retry_timeout},
        )
