"""What a Store promises, on a folder and on S3."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_trainer.errors import FineTuneError, StorageError
from finetune_trainer.store.digests import FileDigest, digest_file
from finetune_trainer.store.store import CHUNK_BYTES, Entry, Store
from finetune_trainer.store.transfer import download_folder, download_verified, upload_files, upload_folder


def _make_folder(folder: Path, *sizes: int) -> Path:
    for index, size in enumerate(sizes):
        path = folder / f"part-{index}" / "file.bin"
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes([index]) * size)
    return folder


def test_what_was_put_is_read_back_and_listed_sorted(store: Store) -> None:
    store.put("b/two.json", b"22")
    store.put("a one.json", b"1")
    assert [stored.data for name in ("a one.json", "b/two.json") if (stored := store.get(name))] == [b"1", b"22"]
    assert store.list() == (Entry("a one.json", 1), Entry("b/two.json", 2))
    assert store.list("b") == (Entry("b/two.json", 2),)
    assert (store.size("b/two.json"), store.size("absent")) == (2, None)


def test_what_is_absent_is_none_and_an_absent_folder_is_empty(store: Store) -> None:
    assert store.get("absent") is None
    assert store.list("absent") == ()
    store.delete("absent")


def test_a_folder_name_does_not_match_a_longer_one(store: Store) -> None:
    store.put("step-1/x", b"1")
    store.put("step-10/x", b"1")
    assert store.list("step-1") == (Entry("step-1/x", 1),)


def test_only_the_first_creates(store: Store) -> None:
    assert [store.create("outcome.json", text) for text in (b"first", b"second")] == [True, False]
    stored = store.get("outcome.json")
    assert stored is not None
    assert stored.data == b"first"


def test_a_swap_succeeds_only_on_the_version_that_was_read(store: Store) -> None:
    store.put("ledger.json", b"old")
    read = store.get("ledger.json")
    assert read is not None
    assert store.swap("ledger.json", b"new", read.version)
    assert not store.swap("ledger.json", b"late", read.version)
    stored = store.get("ledger.json")
    assert stored is not None
    assert stored.data == b"new"


def test_a_swap_of_what_was_deleted_fails(store: Store) -> None:
    store.put("ledger.json", b"old")
    read = store.get("ledger.json")
    assert read is not None
    store.delete("ledger.json")
    assert not store.swap("ledger.json", b"new", read.version)


def test_deleting_leaves_no_empty_folders_behind(store: Store) -> None:
    store.put("a/b/c.json", b"1")
    store.put("keep.json", b"1")
    store.delete("a/b/c.json")
    assert store.list() == (Entry("keep.json", 1),)
    assert store.folder is None or not (store.folder / "a").exists()


def test_a_folder_travels_both_ways_with_files_of_several_parts(store: Store, tmp_path: Path) -> None:
    source = _make_folder(tmp_path / "source", 10, 0, 2 * CHUNK_BYTES + 1)
    digests = upload_folder(store, source, "published")
    assert digests["part-2/file.bin"] == digest_file(source / "part-2" / "file.bin")
    size = download_folder(store, tmp_path / "target", "published")
    assert size == 2 * CHUNK_BYTES + 11
    assert {name: digest_file(tmp_path / "target" / name) for name in digests} == digests


def test_what_was_uploaded_is_read_back_and_compared(store: Store, tmp_path: Path) -> None:
    source = _make_folder(tmp_path / "source", 1000)
    digests = upload_files(store, source, ["part-0/file.bin"], "checkpoint", verify=True)
    assert store.digest("checkpoint/part-0/file.bin") == digests["part-0/file.bin"]


def test_a_file_that_changed_in_the_store_is_refused_and_not_left_behind(store: Store, tmp_path: Path) -> None:
    store.put("shard.bin", b"changed")
    expected = {"shard.bin": FileDigest(size=7, sha256="0" * 64)}
    target = tmp_path / "shard.bin"
    with pytest.raises(StorageError, match="was changed or cut off"):
        download_verified(store, expected, {"shard.bin": target})
    assert not target.exists()


def test_a_file_that_is_gone_is_an_error_that_names_it(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"shard\.bin: the object is gone"):
        store.download("shard.bin", tmp_path / "shard.bin")


def test_a_large_file_is_streamed_into_place(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "large.bin"
    source.write_bytes(b"x" * (3 * CHUNK_BYTES + 5))
    store.upload(source, "large.bin")
    assert store.download("large.bin", tmp_path / "copy.bin") == digest_file(source)
    assert not list(tmp_path.glob(".*.part"))


def test_requests_that_failed_are_counted_and_answers_are_not(tmp_path: Path) -> None:
    failures: list[int] = []
    store = Store.open(f"file://{tmp_path}/store", {}, count_failure=lambda: failures.append(1))
    assert store.get("absent") is None
    store.put("file", b"x")
    assert not store.create("file", b"y")
    assert failures == []
    with pytest.raises(FineTuneError):
        store.put("file/below", b"z")
    assert failures == [1]
