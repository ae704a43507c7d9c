"""From the builder's storage into a node's containerd, copying only what the node lacks.

An image is copied into one OCI layout folder, which writes only the layers that the folder has not got; from there a
tar stream with the blobs that the node has not got goes into ``ctr images import``. Afterwards the large layers are
hollowed (a sparse file of the same size keeps their place, so that the next copy skips them), in the folder and in
the node, whose snapshots hold the files already: a code change moves kilobytes, and a layer lies on the disk once.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

from tests.ground.buildah import Buildah
from tests.ground.layout import Layout
from tests.ground.node import ctr, import_stream
from tests.ground.processes import StartError

LARGE_BYTES = 8 * 2**20
REFERENCE = "org.opencontainers.image.ref.name"


def deliver(builder: Buildah, layout: Layout, node: int, name: str, tag: str) -> None:
    """Bring one image into one node, unless that is what the node has."""
    folder = builder.folder / "layout"
    builder.copy_to(folder, name, tag)
    entry = _entry(folder, tag)
    digest = entry["digest"]
    if digest == _digest_in_node(layout, node, name):
        return
    present = set(ctr(layout, node, "content", "list", "-q").split())
    missing = [blob for blob in _blobs(folder, digest) if blob not in present]
    if any(_is_hollow(_path(folder, blob)) for blob in missing):
        for blob in missing:
            _path(folder, blob).unlink()
        builder.copy_to(folder, name, tag)
    _import(layout, node, folder, {**entry, "annotations": {"io.containerd.image.name": name}}, missing)
    in_node = layout.node(node) / "containerd" / "io.containerd.content.v1.content"
    for blob in missing:
        _hollow(_path(folder, blob))
        _hollow(_path(in_node, blob))


def _import(layout: Layout, node: int, folder: Path, entry: dict[str, object], blobs: list[str]) -> None:
    index = {"schemaVersion": 2, "manifests": [entry]}
    importer = import_stream(layout, node)
    if importer.stdin is None:
        raise AssertionError("the importer was started with a pipe")
    with importer.stdin as pipe, tarfile.open(fileobj=pipe, mode="w|", bufsize=2**20) as tar:
        _add(tar, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        _add(tar, "index.json", json.dumps(index).encode())
        for blob in blobs:
            path = _path(folder, blob)
            tar.add(path, arcname=str(path.relative_to(folder)), recursive=False)
    complaint = importer.stderr.read().decode() if importer.stderr else ""
    if importer.wait() != 0:
        raise StartError(f"node{node} did not take {entry['digest']}: {complaint}")


def _entry(folder: Path, tag: str) -> dict[str, str]:
    manifests = json.loads((folder / "index.json").read_text())["manifests"]
    found = next(each for each in manifests if each.get("annotations", {}).get(REFERENCE) == tag)
    return {key: found[key] for key in ("mediaType", "digest", "size")}


def _blobs(folder: Path, digest: str) -> list[str]:
    """Return an image's blobs: manifest, configuration, layers."""
    manifest = json.loads(_path(folder, digest).read_text())
    return [digest, manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]


def _digest_in_node(layout: Layout, node: int, name: str) -> str:
    lines = ctr(layout, node, "images", "list", f"name=={name}").splitlines()[1:]
    return lines[0].split()[2] if lines else ""


def _path(folder: Path, digest: str) -> Path:
    return folder / "blobs" / digest.replace(":", "/")


def _is_hollow(path: Path) -> bool:
    status = path.stat()
    return status.st_size > LARGE_BYTES and status.st_blocks * 512 < status.st_size // 2


def _hollow(path: Path) -> None:
    size = path.stat().st_size
    if size > LARGE_BYTES:
        path.write_bytes(b"")
        os.truncate(path, size)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
