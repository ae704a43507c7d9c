"""What `finetune run` does before it starts anything: resumes, refuses, starts anew, says the end again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune_cli.earlier_runs import EarlierRuns, read_earlier_runs, record_run
from finetune_cli.errors import InvalidError
from finetune_cli.output import OutputFormat
from finetune_cli.run import RunOptions, find_start, make_run
from finetune_cli.run_folder import RunFolder, lock_run
from finetune_contract import names
from finetune_contract.progress import EvaluationResult
from finetune_contract.run import RunConfig
from finetune_trainer.store.fence import raise_fence
from finetune_trainer.store.ledger import change_ledger
from finetune_trainer.store.outcome import write_outcome
from finetune_trainer.store.store import Store
from tests.cli.make import call, make_checkpoint, make_outcome, write_job


class Desk:
    """A folder with a job file and what runs of it have left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = RunFolder(folder / "runs" / "job")
        self.store = Store.open(f"file://{folder}/out/job")

    def write(self, change: dict[str, Any] | None = None) -> RunConfig:
        options = RunOptions(None, (), False, self.folder / "runs", OutputFormat.TEXT)
        return make_run(write_job(self.folder, change), options)

    def leave_run(self, *, checkpoint: bool = False) -> None:
        record_run(self.store, self.write())
        raise_fence(self.store, 1)
        if checkpoint:
            change_ledger(self.store, 1, lambda ledger: ledger.with_record(make_checkpoint(10)))

    def start(self, run: RunConfig, *, fresh: bool = False) -> EarlierRuns:
        return find_start(self.store, run, self.runs, fresh=fresh)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return Desk(tmp_path)


def test_a_first_run_starts_from_nothing(desk: Desk) -> None:
    assert desk.start(desk.write()) == EarlierRuns()


def test_the_run_is_one_node_of_this_machine(desk: Desk) -> None:
    run = desk.write({"resources": {"nodes": 2, "gpusPerNode": 4}})
    assert (run.resolved.world_size, run.resolved.device, run.resolved.prepare) == (1, "cpu", "inline")
    assert run.job_uri == desk.store.uri


def test_the_same_job_goes_on_from_its_ledger(desk: Desk) -> None:
    desk.leave_run(checkpoint=True)
    run = desk.write({"resources": {"processesPerNode": 2}, "lifecycle": {"activeDeadlineSeconds": 60}})
    earlier = desk.start(run)
    assert (earlier.attempt, earlier.newest_step, earlier.outcome) == (1, 10, None)


def test_a_changed_job_is_refused_with_the_fields_and_loses_nothing(desk: Desk) -> None:
    desk.leave_run(checkpoint=True)
    before = [entry.path for entry in desk.store.list()]
    with pytest.raises(InvalidError) as caught:
        desk.start(desk.write({"training": {"epochs": 4}}))
    assert "spec.training.epochs: absent -> 4.0" in str(caught.value)
    assert "--fresh" in caught.value.remedy
    assert [entry.path for entry in desk.store.list()] == before


def test_a_changed_job_without_a_checkpoint_starts_anew(desk: Desk) -> None:
    desk.leave_run()
    assert desk.start(desk.write({"training": {"epochs": 4}})) == EarlierRuns()
    assert desk.store.list() == ()


def test_fresh_deletes_what_the_earlier_run_left_and_no_other_job(desk: Desk) -> None:
    desk.leave_run(checkpoint=True)
    other = Store.open(f"file://{desk.folder}/out/job2")
    other.put(names.FILE_LEDGER, b"{}")
    desk.runs.work.mkdir(parents=True)
    assert desk.start(desk.write({"training": {"epochs": 4}}), fresh=True) == EarlierRuns()
    assert desk.store.list() == ()
    assert not desk.runs.work.exists()
    assert [entry.path for entry in other.list()] == [names.FILE_LEDGER]


def test_run_json_of_the_first_run_stands(desk: Desk) -> None:
    desk.leave_run()
    record_run(desk.store, desk.write({"resources": {"processesPerNode": 2}}))
    stored = read_earlier_runs(desk.store).run
    assert stored is not None
    assert stored.resolved.world_size == 1


@pytest.mark.parametrize(("succeeded", "code"), [(True, 0), (False, 1)])
def test_a_finished_job_says_its_result_again(desk: Desk, succeeded: bool, code: int) -> None:
    desk.leave_run(checkpoint=True)
    write_outcome(desk.store, make_outcome(succeeded=succeeded, evaluation=EvaluationResult(test={"f1": 0.5})))
    result = call("run", desk.folder / "job.yaml", "--work-dir", desk.folder / "runs")
    assert result.exit_code == code
    assert "has ended before" in result.stderr
    assert "0.5000" in result.stdout
    report = json.loads(call("run", desk.folder / "job.yaml", "--work-dir", desk.folder / "runs", "-o", "json").stdout)
    assert (report["result"], report["outcome"]["evaluation"]["test"]) == (
        "succeeded" if code == 0 else "failed",
        {"f1": 0.5},
    )


def test_a_second_run_of_the_same_name_at_the_same_time_is_refused(desk: Desk) -> None:
    file = write_job(desk.folder)
    with lock_run(desk.runs):
        result = call("run", file, "--work-dir", desk.folder / "runs")
    assert result.exit_code == 1
    assert "works in" in result.stderr


def test_annotations_of_an_earlier_attempt_do_not_stand(run_folder: RunFolder) -> None:
    run_folder.reset()
    run_folder.annotate(names.FILE_STOP, "Stopped by the user")
    run_folder.reset()
    files = {file.name: file.read_text() for file in run_folder.annotations.iterdir()}
    assert files == {names.FILE_ATTEMPT: "", names.FILE_STOP: "", names.FILE_FINISH: ""}
