"""How attempts of real agents fail, and what the next attempt makes of it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from finetune_contract import names
from finetune_contract.exits import FailureClass
from finetune_contract.progress import Outcome
from finetune_trainer.store.fence import raise_fence
from finetune_trainer.store.ledger import read_ledger
from finetune_trainer.store.store import Store
from tests.agent.make import AgentProcess, make_attempt, make_run, put_prepared
from tests.waiting import wait_for


@pytest.mark.parametrize(
    ("how", "failure_class", "exit_code", "message"),
    [
        ("kill", FailureClass.CODE, -9, "was ended by signal 9"),
        ("raise", FailureClass.CODE, 1, "ended with exit code 1"),
        ("user-error", FailureClass.USER, 10, "row 7 has no label; remove it"),
        ("out-of-memory", FailureClass.OUT_OF_MEMORY, 11, "memory did not suffice"),
    ],
)
def test_the_first_failing_rank_is_named_and_not_its_victim(
    tmp_path: Path, how: str, failure_class: FailureClass, exit_code: int, message: str
) -> None:
    run = make_run(f"file://{tmp_path}/store", processes=2)
    put_prepared(Store.open(run.job_uri), tmp_path, {"rank": 1, "step": 3, "how": how})
    with AgentProcess(tmp_path / "node-0", run) as agent:
        agent.annotate(make_attempt())
        progress = agent.wait_for_news()
        failure = progress.failure
        assert failure is not None
        assert (progress.phase, failure.failure_class, failure.rank, failure.node, failure.exit_code) == (
            "Failed",
            failure_class,
            1,
            0,
            exit_code,
        )
        assert message in failure.message
        assert "worker 1 of 2 begins" in failure.last_lines
        assert agent.finish() == 0
        (told,) = [line for line in agent.lines if line.get("event") == "AttemptFailed"]
        assert (told["severity"], told["failed_rank"], tuple(told["last_lines"])) == ("error", 1, failure.last_lines)
        assert message in told["message"]
        assert agent.end["class"] == failure_class


def test_a_worker_that_ignores_its_end_is_ended(tmp_path: Path) -> None:
    run = make_run(f"file://{tmp_path}/store", processes=2)
    put_prepared(Store.open(run.job_uri), tmp_path, {"rank": 1, "step": 3, "how": "hang"})
    with AgentProcess(tmp_path / "node-0", run) as agent:
        agent.annotate(make_attempt())
        failure = agent.wait_for_news().failure
        assert failure is not None
        assert (failure.failure_class, failure.rank) == (FailureClass.PEER_LOST, 0)


def test_the_next_attempt_answers_the_news_and_goes_on_from_the_newest_checkpoint(tmp_path: Path) -> None:
    run = make_run(f"file://{tmp_path}/store", processes=2)
    store = Store.open(run.job_uri)
    put_prepared(store, tmp_path, {"rank": 1, "step": 12, "how": "kill"})
    with AgentProcess(tmp_path / "node-0", run) as agent:
        agent.annotate(make_attempt(1))
        assert agent.wait_for_news().failure is not None
        before = agent.metrics()
        agent.annotate(make_attempt(2))
        progress = agent.wait_for_news(attempt=2)
        after = agent.metrics()
        assert (progress.phase, progress.failure, progress.resumed_from) == ("Finished", None, 10)
        outcome = store.get_document(names.FILE_OUTCOME, Outcome)
        assert outcome is not None
        assert outcome.attempt == 2
        assert [(record.step, record.attempt) for record in read_ledger(store).checkpoints] == [(15, 2), (20, 2)]
        labels = '{job="spam",namespace="research",node="0"}'
        assert after[f"finetune_tokens_total{labels}"] > before[f"finetune_tokens_total{labels}"] > 0
        assert after[f"finetune_lost_steps_total{labels}"] in {1.0, 2.0}
        assert after[f"finetune_attempt{labels}"] == 2.0


def test_a_fenced_attempt_ends_its_workers_and_writes_nothing_more(tmp_path: Path) -> None:
    run = make_run(f"file://{tmp_path}/store", steps=100_000)
    store = Store.open(run.job_uri)
    put_prepared(store, tmp_path)
    with AgentProcess(tmp_path / "node-0", run) as agent:
        agent.annotate(make_attempt(1))
        agent.wait_for_step(6)
        raise_fence(store, 2)
        failure = agent.wait_for_news().failure
        written = store.list()
        assert failure is not None
        assert "attempt 2 holds this job now" in failure.message
        assert failure.failure_class == FailureClass.INFRASTRUCTURE
        assert agent.finish() == 0
    assert store.list() == written


def test_training_goes_on_while_the_store_fails_and_the_checkpoint_comes_late(tmp_path: Path) -> None:
    run = make_run(f"file://{tmp_path}/store", steps=100_000)
    store = Store.open(run.job_uri)
    put_prepared(store, tmp_path)
    assert store.folder is not None
    in_the_way = store.folder / names.CHECKPOINTS_FOLDER
    in_the_way.write_text("a file where the folder should be")
    with AgentProcess(tmp_path / "node-0", run) as agent:
        agent.annotate(make_attempt(1))
        late = wait_for(
            lambda: [text for text in agent.wait_for_step(5).warnings if "is late" in text],
            "word of the failing store",
            seconds=60,
        )
        assert late[0].startswith("checkpoint of step 5 is late: ")
        agent.wait_for_step(agent.progress().step.step + 1)
        in_the_way.unlink()
        wait_for(lambda: agent.progress().checkpoints, "the late checkpoint", seconds=60)
        assert not agent.progress().news


def test_an_attempt_after_the_outcome_reports_it_and_starts_nothing(tmp_path: Path) -> None:
    run = make_run(f"file://{tmp_path}/store")
    store = Store.open(run.job_uri)
    outcome = Outcome(succeeded=False, reason="GateFailed", message="Not published.", attempt=1)
    store.create(names.FILE_OUTCOME, outcome.to_json().encode())
    with AgentProcess(tmp_path / "node-0", run) as agent:
        agent.annotate(make_attempt(2))
        progress = agent.wait_for_news(attempt=2)
        assert (progress.phase, progress.outcome) == ("Finished", outcome)
        assert not list((tmp_path / "node-0" / "work").glob("attempt-*"))


def test_a_missing_bucket_is_a_user_error_within_seconds(tmp_path: Path, object_store: dict[str, str]) -> None:
    run = make_run("s3://nobody-made-this-bucket/models", uid="0a1b2c3d-4e5f")
    with AgentProcess(tmp_path / "node-0", run, environment=object_store) as agent:
        agent.annotate(make_attempt())
        failure = agent.wait_for_news().failure
        assert failure is not None
        assert (failure.failure_class, failure.reason) == (FailureClass.USER, "StorageError")
        assert "the bucket does not exist" in failure.message


@pytest.mark.parametrize("phase", ["Publishing", pytest.param("Training", marks=pytest.mark.matrix)])
def test_an_agent_that_was_cut_off_while_another_took_over_writes_nothing(tmp_path: Path, phase: str) -> None:
    run = make_run(f"file://{tmp_path}/store")
    store = Store.open(run.job_uri)
    put_prepared(
        store, tmp_path, {"rank": 0, "step": 12, "how": "sleep", "stage": "data"} if phase == "Training" else {}
    )
    with AgentProcess(tmp_path / "zombie", run) as zombie, AgentProcess(tmp_path / "replacement", run) as replacement:
        zombie.annotate(make_attempt(1))
        wait_for(zombie.try_progress, "the agent answers", seconds=30)
        wait_for(lambda: zombie.progress().phase == phase, f"phase {phase}", seconds=60)
        wait_for(lambda: phase != "Training" or zombie.progress().step.step == 11, "the last step", seconds=60)
        zombie.process.send_signal(signal.SIGSTOP)
        replacement.annotate(make_attempt(2))
        outcome = replacement.wait_for_news(attempt=2).outcome
        assert outcome is not None
        assert outcome.attempt == 2
        written = _read_all(store)
        zombie.process.send_signal(signal.SIGCONT)
        if phase == "Publishing":
            failure = zombie.wait_for_news().failure
            assert failure is not None
            assert "attempt 2 holds this job now" in failure.message
        assert zombie.terminate() == 0
    assert _read_all(store) == written


def _read_all(store: Store) -> dict[str, bytes]:
    """Everything in the job's folder."""
    assert store.folder is not None
    files = (path for path in store.folder.rglob("*") if path.is_file())
    return {str(path.relative_to(store.folder)): path.read_bytes() for path in files}
