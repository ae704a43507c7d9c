"""Snapshots on their way into the store: in order, through failures, over attempts; and slots given back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_contract.attempt import Attempt
from finetune_contract.run import RunConfig
from finetune_trainer.agent import checkpoints as checkpoints_module
from finetune_trainer.agent.checkpoints import Checkpoints
from finetune_trainer.agent.held import find_held
from finetune_trainer.errors import FencedError, StorageAccessError, StorageError
from finetune_trainer.messages import Offer, Released, SnapshotReady
from finetune_trainer.store.fence import raise_fence
from finetune_trainer.store.ledger import read_ledger
from finetune_trainer.store.location import locate
from finetune_trainer.store.store import Store
from tests.agent.make import make_attempt, make_run, make_site

PATIENCE = 60


class FailingStore(Store):
    """A store that takes no file while `trouble` is set."""

    trouble: Exception | None = None

    def upload(self, source: Path, path: str) -> None:
        if self.trouble is not None:
            raise self.trouble
        super().upload(source, path)


class Node:
    """An agent's checkpoints without the agent: the test plays workers and operator."""

    def __init__(self, run: RunConfig, folder: Path, node: int = 0) -> None:
        self.folder, self.number = folder, node
        self.store = FailingStore(locate(run.job_uri), {})
        self.site = make_site(run, folder, node, self.store)
        self.released: list[Released] = []

    def begin(self, attempt: Attempt) -> Checkpoints:
        """A new attempt, whose workers listen."""
        if self.number == 0:
            raise_fence(self.store, attempt.number)
        checkpoints = Checkpoints(self.site, attempt, local_ranks=1, data_fingerprint="sha256:data")
        checkpoints.release_to(self.released.append)
        return checkpoints

    def save(self, checkpoints: Checkpoints, step: int, best: bool = False) -> Path:
        """One worker's snapshot, in a slot of its own; files change once it is released."""
        slot = self.folder / f"slot-{step}"
        (slot / "weights").mkdir(parents=True)
        (slot / "state").write_text(f"state of step {step}")
        (slot / "weights" / "model.safetensors").write_text(f"weights of step {step}")
        state: dict[str, float | int | str] = {"world_size": 1, "consumed_samples": step * 8}
        files = ("state", "weights/model.safetensors")
        checkpoints.receive(
            SnapshotReady(rank=self.number, step=step, folder=str(slot), files=files, best=best, state=state)
        )
        return slot

    def released_steps(self) -> list[int]:
        return [released.step for released in self.released]

    def stored_steps(self) -> list[tuple[int, int]]:
        """Step and attempt of what the ledger has."""
        return [(record.step, record.attempt) for record in read_ledger(self.store).checkpoints]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints_module, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(checkpoints_module, "LONGEST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(checkpoints_module, "POLL_SECONDS", 0.02)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


def make_saving_run(tmp_path: Path, nodes: int = 1) -> RunConfig:
    return make_run(f"file://{tmp_path}/store", nodes=nodes, checkpoints={"keepLast": 10})


async def test_a_slot_is_released_once_it_is_verified_and_a_newer_snapshot_is_complete(tmp_path: Path) -> None:
    node = Node(make_saving_run(tmp_path), tmp_path / "node")
    checkpoints = node.begin(make_attempt(1))
    slot = node.save(checkpoints, 5)
    await checkpoints.drain()
    assert (node.stored_steps(), node.released) == ([(5, 1)], [])
    newest = node.save(checkpoints, 10)
    assert node.released == [Released(step=5, folder=str(slot))]
    await checkpoints.drain()
    assert node.released_steps() == [5]
    assert find_held(node.site.held) == (Offer(name="step-00000010-a1", path=str(newest), step=10, world_size=1),)


@pytest.mark.parametrize(
    "trouble", [StorageError("no answer from s3://bucket"), StorageAccessError("403: s3://bucket")]
)
async def test_a_store_that_fails_keeps_every_snapshot_and_gets_all_in_order_once_it_heals(
    tmp_path: Path, trouble: Exception
) -> None:
    node = Node(make_saving_run(tmp_path), tmp_path / "node")
    checkpoints = node.begin(make_attempt(1))
    node.store.trouble = trouble
    for step in (5, 10, 15):
        node.save(checkpoints, step)
    await until(lambda: bool(node.site.board.snapshot().warnings))
    assert node.site.board.snapshot().warnings == (f"checkpoint of step 5 is late: {trouble}",)
    assert (node.stored_steps(), node.released, checkpoints.broken.done()) == ([], [], False)
    node.store.trouble = None
    await checkpoints.drain()
    assert (node.stored_steps(), node.released_steps()) == ([(5, 1), (10, 1), (15, 1)], [5, 10])
    assert node.store.get("checkpoints/step-00000010-a1/node-0/state").data == b"state of step 10"  # type: ignore[union-attr]


async def test_what_a_failed_attempt_left_is_offered_to_the_next_one_and_uploaded_under_its_own_name(
    tmp_path: Path,
) -> None:
    node = Node(make_saving_run(tmp_path), tmp_path / "node")
    first = node.begin(make_attempt(1))
    node.store.trouble = StorageError("no answer")
    slot = node.save(first, 5)
    first.close()
    second = node.begin(make_attempt(2))
    assert [(offer.name, offer.path) for offer in find_held(node.site.held)] == [("step-00000005-a1", str(slot))]
    node.store.trouble = None
    node.save(second, 10)
    await until(lambda: node.stored_steps() == [(5, 1), (10, 2)])
    assert (node.released_steps(), first.broken.done(), second.broken.done()) == ([5], False, False)


async def test_between_two_attempts_the_fence_only_delays_what_is_held(tmp_path: Path) -> None:
    """Node 0 raises the fence before this agent has heard of the next attempt."""
    node = Node(make_saving_run(tmp_path), tmp_path / "node")
    first = node.begin(make_attempt(1))
    first.close()
    raise_fence(node.store, 2)
    node.save(first, 5)
    await asyncio.sleep(0.2)
    assert (node.stored_steps(), first.broken.done()) == ([], False)
    node.begin(make_attempt(2))
    await until(lambda: node.stored_steps() == [(5, 1)])


async def test_an_attempt_that_is_fenced_off_ends_and_writes_nothing(tmp_path: Path) -> None:
    node = Node(make_saving_run(tmp_path), tmp_path / "node")
    checkpoints = node.begin(make_attempt(1))
    raise_fence(node.store, 2)
    node.save(checkpoints, 5)
    assert isinstance(await asyncio.wait_for(checkpoints.broken, PATIENCE), FencedError)
    assert (node.stored_steps(), list(node.store.list("checkpoints"))) == ([], [])


async def test_a_checkpoint_whose_other_part_is_lost_with_its_pod_frees_its_slot(tmp_path: Path) -> None:
    node = Node(make_saving_run(tmp_path, nodes=2), tmp_path / "node")
    first = node.begin(make_attempt(1, nodes=2))
    slot = node.save(first, 5)
    await until(lambda: node.store.size("checkpoints/step-00000005-a1/node-0.json") is not None)
    first.close()
    second = node.begin(make_attempt(2, nodes=2, members={"0": "127.0.0.1", "1": "10.0.0.9"}))
    node.save(second, 10)
    await until(lambda: node.released == [Released(step=5, folder=str(slot))])
    assert node.stored_steps() == []


async def test_the_best_weights_are_put_aside_before_their_slot_is_released(tmp_path: Path) -> None:
    node = Node(make_saving_run(tmp_path), tmp_path / "node")
    checkpoints = node.begin(make_attempt(1))
    for step in (5, 10, 15):
        node.save(checkpoints, step, best=step < 15)
    await checkpoints.drain()
    kept = {path.parent.parent.name: path.read_text() for path in (tmp_path / "node" / "best").rglob("*.safetensors")}
    assert kept == {"step-00000005-a1": "weights of step 5", "step-00000010-a1": "weights of step 10"}
    (digest,) = {record.digest for record in read_ledger(node.store).checkpoints if record.step == 10}
    assert (tmp_path / "node" / "best" / "step-00000010-a1" / ".fetched").read_text() == digest
