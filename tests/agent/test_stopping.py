"""Stopping without loss, and leaving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune_contract.progress import Progress
from finetune_contract.run import RunConfig
from finetune_trainer.store.ledger import read_ledger
from finetune_trainer.store.store import Store
from tests.agent.make import AgentProcess, find_workers, make_attempt, make_run, put_prepared
from tests.waiting import wait_for


def _wait_for_phase(agent: AgentProcess, phase: str) -> Progress:
    def look() -> Progress | None:
        progress = agent.progress()
        return progress if progress.phase == phase else None

    return wait_for(look, f"phase {phase}", seconds=30)


def test_stop_saves_and_the_next_attempt_loses_no_step(tmp_path: Path) -> None:
    run = make_run(f"file://{tmp_path}/store", steps=100_000)
    store = Store.open(run.job_uri)
    put_prepared(store, tmp_path)
    with AgentProcess(tmp_path / "node-0", run) as agent:
        agent.annotate(make_attempt(1))
        agent.wait_for_step(7)
        agent.stop()
        stopped = agent.wait_for_news()
        assert stopped.phase == "Stopped"
        newest = read_ledger(store).checkpoints[-1]
        assert (newest.step, newest.state) == (stopped.step.step, "Verified" if newest.step % 5 else "Evaluated")
        agent.annotate(make_attempt(2))
        assert agent.wait_for_resume(attempt=2).resumed_from == stopped.step.step
        agent.annotate(make_attempt(3))
        wait_for(lambda: agent.progress().attempt == 3, "a third attempt while the second runs", seconds=60)
        ends = {"AttemptStopped", "AttemptGivenUp"}
        told = [(line["attempt"], line["event"]) for line in agent.lines if line.get("event") in ends]
        assert told == [(1, "AttemptStopped"), (2, "AttemptGivenUp")]


def test_an_attempt_that_was_stopped_before_it_was_seen_is_told_as_stopped(tmp_path: Path) -> None:
    run = make_run(f"file://{tmp_path}/store")
    put_prepared(Store.open(run.job_uri), tmp_path)
    with AgentProcess(tmp_path / "node-0", run) as agent:
        agent.stop(attempt=3)
        agent.annotate(make_attempt(3))
        wait_for(agent.try_progress, "the agent answers", seconds=30)
        assert agent.wait_for_news(attempt=3).phase == "Stopped"
        agent.annotate(make_attempt(4))
        assert agent.wait_for_news(attempt=4).phase == "Finished"


def test_a_node_that_is_no_member_idles_and_stops(tmp_path: Path) -> None:
    run = make_run(f"file://{tmp_path}/store", nodes=2)
    with AgentProcess(tmp_path / "node-1", run, node=1) as agent:
        agent.annotate(make_attempt(2))
        wait_for(agent.try_progress, "the agent answers", seconds=30)
        assert (
            wait_for(lambda: agent.progress() if agent.progress().attempt else None, "the attempt", seconds=30).phase
            == "Idle"
        )
        agent.stop(attempt=2)
        assert agent.wait_for_news(attempt=2).phase == "Stopped"


def test_sigterm_saves_tells_and_exits_0(tmp_path: Path) -> None:
    run = make_run(f"file://{tmp_path}/store", steps=100_000)
    store = Store.open(run.job_uri)
    put_prepared(store, tmp_path)
    with AgentProcess(tmp_path / "node-0", run) as agent:
        agent.annotate(make_attempt(1))
        agent.wait_for_step(7)
        assert agent.terminate() == 0
        assert agent.end == {"phase": "Stopped", "attempt": 1, "step": read_ledger(store).checkpoints[-1].step}


@pytest.mark.parametrize(
    ("phase", "behaviour", "step"),
    [
        ("Starting", {"step": 0, "how": "sleep", "stage": "starting"}, None),
        pytest.param("Evaluating", {"step": 7, "how": "linger", "stage": "evaluating"}, 7, marks=pytest.mark.matrix),
        pytest.param("Finalizing", {"step": 21, "how": "linger", "stage": "finalizing"}, 20, marks=pytest.mark.matrix),
    ],
)
def test_sigterm_in_every_phase_of_the_workers_loses_nothing(
    tmp_path: Path, phase: str, behaviour: dict[str, Any], step: int | None
) -> None:
    run = make_run(f"file://{tmp_path}/store")
    put_prepared(Store.open(run.job_uri), tmp_path, {"rank": 0, **behaviour})
    with AgentProcess(tmp_path / "node-0", run) as agent:
        agent.annotate(make_attempt(1))
        wait_for(agent.try_progress, "the agent answers", seconds=30)
        wait_for(lambda: agent.progress().ranks or phase == "Starting", "the worker", seconds=30)
        _wait_for_phase(agent, phase)
        assert agent.terminate() == 0
        assert agent.end["phase"] == "Stopped"
    assert _finish_on_a_new_pod(tmp_path, run).resumed_from == step


def test_sigterm_while_data_is_prepared_ends_the_preparation(tmp_path: Path) -> None:
    run = make_run(f"file://{tmp_path}/store")
    with AgentProcess(tmp_path / "node-0", run) as agent:
        agent.annotate(make_attempt(1))
        wait_for(agent.try_progress, "the agent answers", seconds=30)
        _wait_for_phase(agent, "Preparing")
        assert agent.terminate() == 0
        assert agent.end["phase"] == "Stopped"
        assert not find_workers(agent)


@pytest.mark.parametrize(("grace", "end"), [(120, "Finished"), pytest.param(1, "Stopped", marks=pytest.mark.matrix)])
def test_sigterm_while_publishing_finishes_within_the_grace_or_leaves_it_to_the_next_attempt(
    tmp_path: Path, grace: int, end: str
) -> None:
    run = make_run(f"file://{tmp_path}/store", lifecycle={"stopGraceSeconds": grace})
    put_prepared(Store.open(run.job_uri), tmp_path)
    with AgentProcess(tmp_path / "node-0", run) as agent:
        agent.annotate(make_attempt(1))
        wait_for(agent.try_progress, "the agent answers", seconds=30)
        _wait_for_phase(agent, "Publishing")
        assert agent.terminate() == 0
        assert agent.end["phase"] == end
    outcome = _finish_on_a_new_pod(tmp_path, run).outcome
    assert outcome is not None
    assert outcome.attempt == {"Finished": 1, "Stopped": 2}[end]


@pytest.mark.matrix
def test_sigterm_while_the_outcome_is_awaited_leaves_it_to_node_0(tmp_path: Path) -> None:
    run = make_run(f"file://{tmp_path}/store", nodes=2)
    put_prepared(Store.open(run.job_uri), tmp_path)
    with (
        AgentProcess(tmp_path / "node-0", run) as first,
        AgentProcess(tmp_path / "node-1", run, node=1) as second,
    ):
        for agent in (first, second):
            agent.annotate(make_attempt(1, nodes=2))
            wait_for(agent.try_progress, "the agent answers", seconds=30)
        _wait_for_phase(second, "Publishing")
        assert second.terminate() == 0
        assert second.end["phase"] in {"Stopped", "Finished"}
        assert first.wait_for_news().phase == "Finished"


@pytest.mark.matrix
def test_a_stop_of_ranks_that_stand_still_ends_with_the_last_complete_checkpoint(tmp_path: Path) -> None:
    run = make_run(f"file://{tmp_path}/store", processes=2)
    put_prepared(Store.open(run.job_uri), tmp_path, {"rank": 1, "step": 8, "how": "halt"})
    with AgentProcess(tmp_path / "node-0", run) as agent:
        agent.annotate(make_attempt(1))
        wait_for(lambda: _stand_at(agent.try_progress(), step=7, saved=5), "both ranks in step 8", seconds=60)
        agent.stop()
        stopped = agent.wait_for_news()
        assert (stopped.phase, [record.step for record in stopped.checkpoints]) == ("Stopped", [5])
        assert [warning for warning in stopped.warnings if "did not agree on a step" in warning]
        agent.annotate(make_attempt(2))
        assert agent.wait_for_news(attempt=2).resumed_from == 5


def _stand_at(progress: Progress | None, *, step: int, saved: int) -> bool:
    if progress is None:
        return False
    is_saved = [record.step for record in progress.checkpoints] == [saved]
    return is_saved and [rank.step for rank in progress.ranks] == [step, step]


def _finish_on_a_new_pod(tmp_path: Path, run: RunConfig) -> Progress:
    """The second attempt, on a node that knows nothing of the first one."""
    with AgentProcess(tmp_path / "replacement", run) as agent:
        agent.annotate(make_attempt(2))
        progress = agent.wait_for_news(attempt=2)
        assert progress.phase == "Finished"
        return progress


def test_sigterm_before_any_attempt_exits_0(tmp_path: Path) -> None:
    run = make_run(f"file://{tmp_path}/store")
    with AgentProcess(tmp_path / "node-0", run) as agent:
        wait_for(agent.try_progress, "the agent answers", seconds=30)
        assert agent.is_ready()
        assert agent.terminate() == 0


def test_stop_while_another_node_prepares_gives_up_waiting(tmp_path: Path) -> None:
    run = make_run(f"file://{tmp_path}/store", nodes=2)
    with AgentProcess(tmp_path / "node-1", run, node=1) as agent:
        agent.annotate(make_attempt(nodes=2))
        wait_for(agent.try_progress, "the agent answers", seconds=30)
        _wait_for_phase(agent, "Preparing")
        agent.stop()
        assert agent.wait_for_news().phase == "Stopped"


def test_a_new_attempt_ends_the_workers_of_the_old_one(tmp_path: Path) -> None:
    run = make_run(f"file://{tmp_path}/store", steps=100_000, processes=2)
    store = Store.open(run.job_uri)
    put_prepared(store, tmp_path)
    with AgentProcess(tmp_path / "node-0", run) as agent:
        agent.annotate(make_attempt(1))
        agent.wait_for_step(6)
        agent.annotate(make_attempt(2))
        wait_for(lambda: agent.progress().attempt == 2, "the second attempt", seconds=30)
        wait_for(lambda: len(agent.progress().ranks) == 2, "both ranks of the second attempt", seconds=30)
        assert not agent.progress().news
        agent.stop(attempt=2)
        assert agent.wait_for_news(attempt=2).phase == "Stopped"
        assert not find_workers(agent)
