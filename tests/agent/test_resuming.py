"""Which checkpoint an attempt goes on from: the newest that is trusted, complete and unharmed."""

from __future__ import annotations

import shutil
from pathlib import Path

from finetune_contract import names
from finetune_trainer.store.ledger import read_ledger
from finetune_trainer.store.store import Store
from tests.agent.make import AgentProcess, make_attempt, make_run, put_prepared

UID = "0a1b2c3d-4e5f"


def test_a_new_pod_passes_over_every_kind_of_broken_checkpoint_and_names_it(tmp_path: Path) -> None:
    run = make_run(f"file://{tmp_path}/store", steps=100, uid=UID, checkpoints={"keepLast": 10})
    store = Store.open(run.job_uri)
    put_prepared(store, tmp_path, {"rank": 0, "step": 32, "how": "kill"})
    with AgentProcess(tmp_path / "former", run) as agent:
        agent.annotate(make_attempt(1))
        agent.wait_for_news()
    trusted = {record.uri.rpartition("/")[2]: record.digest for record in read_ledger(store).checkpoints}
    assert list(trusted) == [_name(step) for step in (5, 10, 15, 20, 25, 30)]
    del trusted[_name(30)]  # whoever can write the bucket can write a manifest
    _cut(_folder(store, 25) / "node-0" / "shard-0.bin")
    _change(_folder(store, 20) / "node-0" / "shard-0.bin")
    (_folder(store, 15) / names.FILE_MANIFEST).unlink()
    shutil.rmtree(_folder(store, 10))
    with AgentProcess(tmp_path / "new", run) as agent:
        agent.annotate(make_attempt(2, checkpoints=trusted))
        progress = agent.wait_for_resume(attempt=2)
    assert progress.resumed_from == 5
    said = {text.split()[1]: text for text in progress.warnings}
    assert sorted(said) == [_name(step) for step in (10, 15, 20, 25)]
    assert "has no manifest" in said[_name(10)]
    assert "has no manifest" in said[_name(15)]
    assert "the file was changed or cut off" in said[_name(20)]
    assert "the file was changed or cut off" in said[_name(25)]


def test_a_changed_manifest_is_not_the_one_that_was_verified(tmp_path: Path) -> None:
    run = make_run(f"file://{tmp_path}/store", steps=100, uid=UID)
    store = Store.open(run.job_uri)
    put_prepared(store, tmp_path, {"rank": 0, "step": 12, "how": "kill"})
    with AgentProcess(tmp_path / "former", run) as agent:
        agent.annotate(make_attempt(1))
        agent.wait_for_news()
    trusted = {record.uri.rpartition("/")[2]: record.digest for record in read_ledger(store).checkpoints}
    for step in (5, 10):
        manifest = _folder(store, step) / names.FILE_MANIFEST
        manifest.write_bytes(manifest.read_bytes() + b"\n")
    with AgentProcess(tmp_path / "new", run) as agent:
        agent.annotate(make_attempt(2, checkpoints=trusted))
        progress = agent.wait_for_step(1)
    assert progress.resumed_from is None
    assert sorted(text for text in progress.warnings if "passed over" in text) == [
        f"checkpoint {_name(step)} is passed over: its manifest is not the one that was verified" for step in (5, 10)
    ]


def _name(step: int) -> str:
    return names.checkpoint_folder(step, 1)


def _folder(store: Store, step: int) -> Path:
    assert store.folder is not None
    return store.folder / names.CHECKPOINTS_FOLDER / _name(step)


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _change(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
