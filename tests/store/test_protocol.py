"""Fence, outcome, ledger and manifests: who may write what, and who was first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from finetune_contract import names
from finetune_contract.progress import Outcome
from finetune_trainer.errors import FencedError, StorageError
from finetune_trainer.store.digests import FileDigest
from finetune_trainer.store.fence import check_fence, raise_fence
from finetune_trainer.store.ledger import Ledger, adopt_manifests, change_ledger, delete_checkpoint, read_ledger
from finetune_trainer.store.manifest import (
    NodeFiles,
    compose,
    files_for_resume,
    files_of_weights,
    folder_of,
    node_file,
    read_manifest,
    read_nodes,
    record_of,
)
from finetune_trainer.store.outcome import read_outcome, write_outcome
from finetune_trainer.store.store import Entry, Store
from tests.publish.make import make_run
from tests.store.make import make_node, make_record


def test_a_newer_attempt_fences_off_the_older(store: Store, rival: Store) -> None:
    raise_fence(store, 1)
    raise_fence(rival, 2)
    with pytest.raises(FencedError, match="attempt 2 holds this job now"):
        check_fence(store, 1)
    with pytest.raises(FencedError):
        raise_fence(store, 1)
    raise_fence(rival, 2)
    check_fence(rival, 2)


def test_before_any_fence_nobody_is_fenced_off(store: Store) -> None:
    check_fence(store, 1)


def test_the_first_outcome_counts(store: Store, rival: Store) -> None:
    first = Outcome(succeeded=True, reason="Published", message="first", attempt=1)
    second = first.model_copy(update={"message": "second"})
    assert write_outcome(store, first) == first
    assert write_outcome(rival, second) == first
    assert read_outcome(rival) == first


def test_ledger_entries_of_concurrent_writers_are_all_kept(store: Store) -> None:
    raise_fence(store, 1)
    records = [make_record(step=step) for step in range(6)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda new: change_ledger(store, 1, lambda ledger: ledger.with_record(new)), records))
    assert read_ledger(store) == Ledger(checkpoints=tuple(records))


def test_a_fenced_attempt_does_not_touch_the_ledger(store: Store, rival: Store) -> None:
    raise_fence(store, 1)
    raise_fence(rival, 2)
    with pytest.raises(FencedError):
        change_ledger(store, 1, lambda ledger: ledger.with_record(make_record()))
    assert read_ledger(rival) == Ledger()


def test_a_record_of_the_same_folder_is_replaced(store: Store) -> None:
    old, new = make_record(state="Evaluated", f1=0.5), make_record(state="Promoted", f1=0.5)
    assert Ledger().with_record(old).with_record(new) == Ledger(checkpoints=(new,))


def test_a_document_that_is_none_is_named(store: Store) -> None:
    store.put(names.FILE_LEDGER, b'{"checkpoints": 7}')
    with pytest.raises(StorageError, match=r"ledger\.json: this is not the Ledger"):
        read_ledger(store)


def test_a_manifest_is_composed_only_when_every_node_has_written(store: Store) -> None:
    folder = folder_of(100, 1)
    first, second = make_node(0), make_node(1)
    store.put(f"{folder}/{node_file(0)}", first.to_json().encode())
    assert read_nodes(store, folder, (0, 1)) is None
    store.put(f"{folder}/{node_file(1)}", second.to_json().encode())
    assert read_nodes(store, folder, (0, 1)) == (first, second)


def test_every_agent_composes_the_same_manifest_with_the_figures_of_rank_0() -> None:
    first = make_node(0, metrics={"f1": 0.9}, best=True, state={"consumed_samples": 800, "world_size": 2})
    second = make_node(1)
    manifest = compose([second, first], make_run(), "sha256:data")
    assert manifest == compose([first, second], make_run(), "sha256:data")
    assert (manifest.consumed_samples, manifest.metrics, manifest.best) == (800, {"f1": 0.9}, True)
    assert sorted(manifest.files) == ["node-0/shard-0.bin", "node-1/shard-1.bin"]


def test_a_checkpoint_between_manifest_and_ledger_is_adopted(store: Store) -> None:
    folder = folder_of(100, 1)
    manifest = compose([make_node(0)], make_run(), "sha256:data")
    store.create(f"{folder}/{names.FILE_MANIFEST}", manifest.to_json().encode())
    store.put(f"{folder_of(200, 1)}/{node_file(0)}", b"{}")
    found = read_manifest(store, folder)
    assert found is not None
    expected = record_of(manifest, found[1], f"{store.uri}/{folder}", at=5.0)
    assert adopt_manifests(store, 2, at=5.0) == Ledger(checkpoints=(expected,))
    assert adopt_manifests(store, 2, at=9.0) == Ledger(checkpoints=(expected,))


def test_a_deleted_checkpoint_is_gone_and_its_neighbour_is_not(store: Store) -> None:
    for step in (1, 10):
        store.put(f"{folder_of(step, 1)}/node-0/x", b"1")
    delete_checkpoint(store, 1, make_record(step=1, uri=f"{store.uri}/{folder_of(1, 1)}"))
    assert store.list() == (Entry(f"{folder_of(10, 1)}/node-0/x", 1),)


def test_a_node_resumes_with_its_own_files_and_the_weights_are_fetched_apart() -> None:
    weights = {"weights/model.safetensors": FileDigest(size=1, sha256="a" * 64)}
    same_name = {"model_states.pt": FileDigest(size=1, sha256="b" * 64)}
    nodes = [make_node(0, files=weights | same_name), make_node(1, files=same_name)]
    manifest = compose(nodes, make_run(), "sha256:data")
    assert files_for_resume(manifest, 0) == {"node-0/model_states.pt": "model_states.pt"}
    assert files_for_resume(manifest, 1) == {"node-1/model_states.pt": "model_states.pt"}
    assert files_for_resume(manifest, 7) == {"node-0/model_states.pt": "model_states.pt"}
    assert files_of_weights(manifest) == {"node-0/weights/model.safetensors": "weights/model.safetensors"}


def test_a_node_file_holds_what_rank_0_said() -> None:
    node = make_node(0, state={"consumed_samples": 8})
    assert NodeFiles.from_json(node.to_json()) == node
