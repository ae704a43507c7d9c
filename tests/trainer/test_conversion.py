"""The whole way of a checkpoint to another number of processes: from the store, by the agent, to the workers' files."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_trainer.messages import Fetched, SnapshotReady
from finetune_trainer.store.store import Store
from tests.agent.make import make_run
from tests.agent.test_delivery import NAME, fetch, make_site, put_checkpoint
from tests.trainer.conftest import Folders
from tests.trainer.pool import Attempt
from tests.trainer.resuming import run_until
from tests.trainer.test_world_sizes import make_sized_run


@pytest.mark.matrix
@pytest.mark.distributed
async def test_another_number_of_processes_gets_all_parts_converted(plain_classifier: Folders, tmp_path: Path) -> None:
    stopped = run_until(2, make_sized_run(2, "full", 3), plain_classifier, tmp_path / "stopped")
    job = make_run(f"file://{tmp_path}/store", nodes=2)
    run = job.model_copy(update={"resolved": job.resolved.model_copy(update={"zero_stage": 3})})
    put_checkpoint(run, Store.open(run.job_uri), read_snapshots(stopped), tmp_path / "saved")
    fetched = await fetch(make_site(run, tmp_path / "work"), nodes=1)
    folder = tmp_path / "work" / "resume" / NAME / "universal"
    assert fetched == Fetched(name=NAME, path=str(folder), universal=True)
    assert (folder / "trainer_state.json").is_file()
    assert (folder / "engine" / "zero" / "optimizer_state.pt").is_file()


def read_snapshots(former: Attempt) -> dict[int, dict[str, bytes]]:
    """Files of the newest snapshot by node."""
    files: dict[int, dict[str, bytes]] = {}
    for worker in former.workers:
        newest = worker.heard(SnapshotReady)[-1]
        saved = files.setdefault(worker.task.node, {})
        saved |= {name: (Path(newest.folder) / name).read_bytes() for name in newest.files}
    return files
