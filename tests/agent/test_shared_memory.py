"""An agent's folder in shared memory: one a work dir, locked while the agent lives, room counted with what is there."""

from __future__ import annotations

import os
from pathlib import Path

from finetune_contract.run import RunConfig
from finetune_trainer.agent.settings import Settings
from finetune_trainer.agent.shared_memory import FILE_OWNER, RESERVED_BYTES, SharedMemory, claim_memory
from tests.agent.make import make_run, make_settings

GIB = 1 << 30


def make_limited(work_dir: Path, shared_memory_bytes: int = GIB) -> Settings:
    run: RunConfig = make_run(f"file://{work_dir}/store")
    resolved = run.resolved.model_copy(update={"shared_memory_bytes": shared_memory_bytes})
    run = run.model_copy(update={"resolved": resolved})
    return make_settings(run, work_dir)


def test_each_work_dir_has_a_folder_and_nobody_removes_one_that_is_in_use(tmp_path: Path) -> None:
    one = claim_memory(make_limited(tmp_path / "one"), tmp_path / "shm")
    two = claim_memory(make_limited(tmp_path / "two"), tmp_path / "shm")
    assert one.folder is not None
    assert two.folder is not None
    assert one.folder != two.folder
    assert one.folder.is_dir()
    assert claim_memory(make_limited(tmp_path / "one"), tmp_path / "shm").folder is None


def test_what_an_agent_that_was_killed_has_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "shm" / "0123456789abcdef"
    (left / "slot-0").mkdir(parents=True)
    (left / FILE_OWNER).touch()
    memory = claim_memory(make_limited(tmp_path / "one"), tmp_path / "shm")
    assert list((tmp_path / "shm").iterdir()) == [memory.folder]


def test_the_room_is_the_limit_less_a_reserve_for_each_worker_whatever_lies_there(tmp_path: Path) -> None:
    memory = claim_memory(make_limited(tmp_path / "one"), tmp_path / "shm")
    assert memory.folder is not None
    before = memory.find_room(2)
    assert before == GIB // 2 - RESERVED_BYTES
    with (memory.folder / "file").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 100 << 20)
    assert memory.find_room(2) == before


def test_without_shared_memory_there_is_no_room(tmp_path: Path) -> None:
    nothing = claim_memory(make_limited(tmp_path / "one", shared_memory_bytes=0), tmp_path / "shm")
    nowhere = claim_memory(make_limited(tmp_path / "one"), tmp_path / "missing" / "shm")
    assert [memory.find_room(1) for memory in (nothing, nowhere, SharedMemory(None, GIB))] == [0, 0, 0]
    assert (nothing.folder, nowhere.folder) == (None, None)


def test_at_its_end_an_agent_gives_everything_back(tmp_path: Path) -> None:
    memory = claim_memory(make_limited(tmp_path / "one"), tmp_path / "shm")
    memory.remove()
    assert list((tmp_path / "shm").iterdir()) == []
