"""A model hub of one process: folders served by the routes that huggingface_hub's real client asks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Hub(BaseHTTPRequestHandler):
    repositories: ClassVar[dict[str, Path]]
    """`models/owner/name` -> folder."""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        path = self.path.partition("?")[0].strip("/")
        for name, folder in self.repositories.items():
            kind, _, repository = name.partition("/")
            rest = path.removeprefix(f"api/{name}")
            if rest != path:
                self._send_json(self._tree(folder) if rest.startswith("/tree") else self._info(repository, folder))
                return
            prefix = repository if kind == "models" else name
            if path.startswith(f"{prefix}/resolve/{COMMIT}/"):
                self._send_file(folder / path.removeprefix(f"{prefix}/resolve/{COMMIT}/"), with_body)
                return
        self.send_error(404)

    def _info(self, repository: str, folder: Path) -> dict[str, Any]:
        siblings = [{"rfilename": path.name} for path in sorted(folder.iterdir())]
        return {"id": repository, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}

    def _tree(self, folder: Path) -> list[dict[str, Any]]:
        files = sorted(path for path in folder.iterdir() if path.is_file())
        return [{"type": "file", "path": p.name, "size": p.stat().st_size, "oid": _digest(p)[:40]} for p in files]

    def _send_json(self, document: object) -> None:
        self._send(json.dumps(document).encode(), {"Content-Type": "application/json"}, with_body=True)

    def _send_file(self, path: Path, with_body: bool) -> None:
        if not path.is_file():
            self._send(b"", {"X-Error-Code": "EntryNotFound"}, with_body, status=404)
            return
        self._send(path.read_bytes(), {"ETag": f'"{_digest(path)}"', "X-Repo-Commit": COMMIT}, with_body)

    def _send(self, body: bytes, headers: dict[str, str], with_body: bool, status: int = 200) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def serve_hub(repositories: dict[str, Path]) -> Iterator[str]:
    """Serve folders as `models/owner/name` or `datasets/owner/name`; the address is for HF_ENDPOINT."""
    handler = type("Hub", (_Hub,), {"repositories": repositories})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
