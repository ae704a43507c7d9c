"""What a checkpoint consists of: `node-<i>.json` of every node, and `manifest.json` once all of them are there.

In the store each node's files lie in a folder of their own, `checkpoints/step-00000100-a1/node-0/...`: DeepSpeed gives
the files of different nodes the same names when they share no disk. A manifest that exists means: every file was read
back and had its digest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from pydantic import Field

from finetune_contract import names
from finetune_contract.document import Document
from finetune_contract.progress import CheckpointRecord, Metrics
from finetune_contract.run import RunConfig
from finetune_trainer.store.digests import FileDigest, sha256_text
from finetune_trainer.store.store import Store

State = dict[str, float | int | str]

WEIGHTS = "weights/"
"""Folder of what is trained, in the files of rank 0's node."""


class NodeFiles(Document):
    """node-<i>.json: this node's files are in the store and were read back."""

    node: int
    step: int
    attempt: int
    files: dict[str, FileDigest]
    """Path below the node's folder -> digest."""
    metrics: Metrics = {}
    """Validation metrics (the node of rank 0)."""
    best: bool = False
    """The best so far (the node of rank 0)."""
    state: State = {}
    """Figures of rank 0: consumed_samples, zero_stage, world_size, ..."""


class Manifest(Document):
    """manifest.json: the checkpoint is complete. Create-only."""

    manifest_version: int = 1
    step: int
    attempt: int
    nodes: tuple[int, ...]
    files: dict[str, FileDigest]
    """Path below the checkpoint's folder -> digest, of all nodes."""
    world_size: int
    zero_stage: int
    consumed_samples: int
    """Rows that training has seen; with the seed it fixes the order of the rest."""
    metrics: Metrics
    best: bool
    state: State
    config_digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    """Of the RunConfig."""
    data_fingerprint: str

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())


def digest_of_config(run: RunConfig) -> str:
    """SHA-256 of the whole RunConfig as canonical JSON, as the published manifest has it."""
    return sha256_text(json.dumps(run.to_data(), sort_keys=True, separators=(",", ":")).encode())


def folder_of(step: int, attempt: int) -> str:
    """Path of a checkpoint below the job's folder."""
    return f"{names.CHECKPOINTS_FOLDER}/{names.checkpoint_folder(step, attempt)}"


def node_folder(node: int) -> str:
    """Folder of one node's files below the checkpoint's."""
    return f"node-{node}"


def node_file(node: int) -> str:
    """Name of one node's list of files."""
    return f"node-{node}.json"


def is_node_file(name: str) -> bool:
    """Whether a path below a checkpoint's folder is one node's list of files."""
    return re.fullmatch(r"node-\d+\.json", name) is not None


def compose(nodes: Iterable[NodeFiles], run: RunConfig, data_fingerprint: str) -> Manifest:
    """The manifest of a checkpoint whose nodes have all said what they wrote. Pure: every agent composes the same."""
    ordered = sorted(nodes, key=lambda node: node.node)
    speaker = next((node for node in ordered if node.state), ordered[0])
    return Manifest(
        step=speaker.step,
        attempt=speaker.attempt,
        nodes=tuple(node.node for node in ordered),
        files={
            f"{node_folder(node.node)}/{name}": digest
            for node in ordered
            for name, digest in sorted(node.files.items())
        },
        world_size=int(speaker.state.get("world_size", run.resolved.world_size)),
        zero_stage=int(speaker.state.get("zero_stage", run.resolved.zero_stage)),
        consumed_samples=int(speaker.state.get("consumed_samples", 0)),
        metrics=speaker.metrics,
        best=speaker.best,
        state=speaker.state,
        config_digest=digest_of_config(run),
        data_fingerprint=data_fingerprint,
    )


def read_nodes(store: Store, folder: str, nodes: Iterable[int]) -> tuple[NodeFiles, ...] | None:
    """The lists of all these nodes; None while one is missing. Raises StorageError."""
    found = []
    for node in nodes:
        files = store.get_document(f"{folder}/{node_file(node)}", NodeFiles)
        if files is None:
            return None
        found.append(files)
    return tuple(found)


def read_manifest(store: Store, folder: str) -> tuple[Manifest, str] | None:
    """A checkpoint's manifest and its digest; None when there is none. Raises StorageError."""
    path = f"{folder}/{names.FILE_MANIFEST}"
    stored = store.get(path)
    return None if stored is None else (store.parse(path, stored.data, Manifest), sha256_text(stored.data))


def record_of(manifest: Manifest, digest: str, uri: str, at: float) -> CheckpointRecord:
    """The ledger's line of a checkpoint that has its manifest."""
    return CheckpointRecord(
        step=manifest.step,
        attempt=manifest.attempt,
        state="Evaluated" if manifest.metrics else "Verified",
        uri=uri,
        digest=digest,
        metrics=manifest.metrics,
        size_bytes=manifest.size_bytes,
        at=at,
    )


def files_for_resume(manifest: Manifest, position: int) -> dict[str, str]:
    """What a node needs to go on: path below the checkpoint's folder -> path in the local folder.

    `position` is its place among the attempt's members, whatever their indexes are: rank 0 goes on with what rank 0 has
    saved. A node beyond those that saved takes what the first one has. Weights are for the end, not for this.
    """
    node = manifest.nodes[position] if position < len(manifest.nodes) else manifest.nodes[0]
    return _files_of_node(manifest, node)


def files_of_all_nodes(manifest: Manifest) -> dict[str, str]:
    """What a conversion to another number of processes needs, as `files_for_resume` has its files.

    Where nodes have saved files of the same name (what every rank holds alike), the first node's are taken.
    """
    files: dict[str, str] = {}
    for node in manifest.nodes:
        known = set(files.values())
        files |= {path: local for path, local in _files_of_node(manifest, node).items() if local not in known}
    return files


def _files_of_node(manifest: Manifest, node: int) -> dict[str, str]:
    own = node_folder(node) + "/"
    chosen = {path: path.removeprefix(own) for path in manifest.files if path.startswith(own)}
    return {path: local for path, local in chosen.items() if not local.startswith(WEIGHTS)}


def files_of_weights(manifest: Manifest) -> dict[str, str]:
    """The weights of an evaluated checkpoint, as `files_for_resume` has its files; empty where none were saved."""
    own = node_folder(manifest.nodes[0]) + "/"
    return {path: path.removeprefix(own) for path in manifest.files if path.startswith(own + WEIGHTS)}
