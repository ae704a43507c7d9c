"""The checkpoint that workers ask for is brought to their node: its own part, or all parts converted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from finetune_contract import names
from finetune_contract.run import RunConfig
from finetune_trainer.agent.delivery import Delivery
from finetune_trainer.agent.launcher import Launcher
from finetune_trainer.agent.metrics import Metrics
from finetune_trainer.agent.progress import Board
from finetune_trainer.agent.resume import choose_candidates
from finetune_trainer.agent.settings import Settings
from finetune_trainer.agent.site import Site
from finetune_trainer.errors import FineTuneError
from finetune_trainer.messages import FetchCheckpoint, Fetched
from finetune_trainer.store.ledger import adopt_manifests
from finetune_trainer.store.manifest import NodeFiles, compose, folder_of, node_folder
from finetune_trainer.store.store import Store
from finetune_trainer.store.transfer import upload_files
from tests.agent.make import make_attempt, make_run

NAME = names.checkpoint_folder(3, 1)


def make_site(run: RunConfig, work_dir: Path, node: int = 0) -> Site:
    settings = Settings(run, work_dir, work_dir, work_dir, node, "trainer", "127.0.0.1", 0, None, None)
    store = Store.open(run.job_uri, {})
    return Site(settings, {}, store, Board("", node, "trainer"), Metrics(run, node, None), Launcher())


def put_checkpoint(run: RunConfig, store: Store, files: dict[int, dict[str, bytes]], folder: Path) -> None:
    """A verified checkpoint of step 3 with these files by node, entered in the ledger."""
    nodes = []
    for node, contents in files.items():
        for name, data in contents.items():
            (folder / str(node) / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / str(node) / name).write_bytes(data)
        digests = upload_files(store, folder / str(node), contents, f"{folder_of(3, 1)}/{node_folder(node)}")
        state: dict[str, Any] = {"world_size": len(files), "zero_stage": run.resolved.zero_stage}
        nodes.append(NodeFiles(node=node, step=3, attempt=1, files=digests, state=state))
    manifest = compose(nodes, run, "sha256:data")
    store.create(f"{folder_of(3, 1)}/{names.FILE_MANIFEST}", manifest.to_json().encode())
    adopt_manifests(store, 1, at=0.0)


async def fetch(site: Site, nodes: int, name: str = NAME) -> Fetched:
    """What the workers of an attempt with so many nodes are answered."""
    answered: asyncio.Future[Fetched] = asyncio.get_running_loop().create_future()

    def fail(error: FineTuneError) -> None:
        answered.set_exception(error)

    attempt = make_attempt(2, nodes)
    candidates = choose_candidates(site, attempt)
    delivery = Delivery(site, attempt, candidates, answered.set_result, fail)
    delivery.receive(FetchCheckpoint(name=name, world_size=nodes))
    try:
        return await asyncio.wait_for(answered, 200)
    finally:
        await delivery.close()


async def test_a_node_gets_the_part_of_its_place_whatever_its_index_was(tmp_path: Path) -> None:
    run = make_run(f"file://{tmp_path}/store", nodes=2)
    store = Store.open(run.job_uri)
    put_checkpoint(run, store, {0: {"shard": b"first"}, 2: {"shard": b"second"}}, tmp_path / "saved")
    (tmp_path / "work" / "resume" / "step-00000001-a1").mkdir(parents=True)
    fetched = await fetch(make_site(run, tmp_path / "work", node=1), nodes=2)
    assert fetched == Fetched(name=NAME, path=str(tmp_path / "work" / "resume" / NAME / "place-1"))
    assert (Path(fetched.path or "") / "shard").read_bytes() == b"second"
    assert [folder.name for folder in (tmp_path / "work" / "resume").iterdir()] == [NAME]


async def test_a_checkpoint_that_is_damaged_or_unknown_is_answered_with_the_reason(tmp_path: Path) -> None:
    run = make_run(f"file://{tmp_path}/store")
    store = Store.open(run.job_uri)
    put_checkpoint(run, store, {0: {"shard": b"whole"}}, tmp_path / "saved")
    store.put(f"{folder_of(3, 1)}/node-0/shard", b"who")
    site = make_site(run, tmp_path / "work")
    damaged = await fetch(site, nodes=1)
    assert (damaged.path, "the file was changed or cut off" in damaged.problem) == (None, True)
    unknown = await fetch(site, nodes=1, name="step-00000099-a1")
    assert unknown == Fetched(name="step-00000099-a1", problem=f"it is not in {store.uri}")
