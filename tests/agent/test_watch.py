"""Workers of real agents that hang: who is named, where, and with which stack; and slow ones that are let be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetune_contract.exits import FailureClass
from finetune_contract.progress import Failure
from finetune_trainer.store.store import Store
from tests.agent.make import AgentProcess, make_attempt, make_run, put_prepared

TIMEOUTS = {"stepSeconds": 2}


def _find_failure(tmp_path: Path, behaviour: dict[str, Any]) -> Failure:
    run = make_run(f"file://{tmp_path}/store", processes=2, failurePolicy={"timeouts": TIMEOUTS})
    put_prepared(Store.open(run.job_uri), tmp_path, {"rank": 1, "step": 3, **behaviour})
    with AgentProcess(tmp_path / "node-0", run) as agent:
        agent.annotate(make_attempt())
        failure = agent.wait_for_news().failure
        assert failure is not None
        return failure


def test_a_worker_that_sleeps_is_named_with_its_stack(tmp_path: Path) -> None:
    failure = _find_failure(tmp_path, {"how": "sleep", "stage": "data"})
    assert (failure.failure_class, failure.rank, failure.phase, failure.step, failure.secondary) == (
        FailureClass.HANG,
        1,
        "data",
        3,
        False,
    )
    assert failure.last_lines[0].startswith("Current thread")
    assert "_misbehave" in failure.last_lines[1]


def test_a_worker_that_is_halted_is_named_without_a_stack(tmp_path: Path) -> None:
    failure = _find_failure(tmp_path, {"how": "halt"})
    assert (failure.failure_class, failure.rank, failure.phase, failure.last_lines) == (
        FailureClass.HANG,
        1,
        "forward",
        (),
    )
    assert "its process is stopped (SIGSTOP, or a debugger)" in failure.message
