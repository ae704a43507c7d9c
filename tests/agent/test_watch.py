"""Workers of real agents that hang: who is named, where, and with which stack; and slow ones that are let be."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from finetune_contract import names
from finetune_contract.exits import FailureClass
from finetune_contract.progress import Failure
from finetune_trainer.data.prepared import PreparedData
from finetune_trainer.results import PreparedPointer
from finetune_trainer.store.store import Store
from tests.agent.make import AgentProcess, find_workers, make_attempt, make_run, put_prepared
from tests.trainer.make import make_model_folder, make_prepared
from tests.trainer.make import make_run as make_real_run

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


@pytest.mark.matrix
@pytest.mark.distributed
def test_of_real_workers_the_halted_one_is_the_cause_and_the_other_nodes_waits_for_it(tmp_path: Path) -> None:
    spec = {
        "failurePolicy": {"timeouts": dict.fromkeys(("stepSeconds", "evaluationSeconds", "saveSeconds"), 5)},
        "training": {"maxSteps": 100_000, "batchSize": 8},
    }
    run = make_real_run(
        spec={**spec, "output": {"destination": f"file://{tmp_path}/store"}},
        world_size=2,
        nodes=2,
        epochs=None,
        max_steps=100_000,
        evaluate_every_epochs=None,
    )
    model = make_model_folder(tmp_path / "model")
    data = make_prepared(tmp_path / "data", model)
    pointer = PreparedPointer(
        uri=f"file://{data}",
        model_uri=f"file://{model}",
        summary=PreparedData.from_json((data / "prepared.json").read_bytes()).summary,
    )
    Store.open(run.job_uri).put(names.FILE_PREPARED, pointer.to_json().encode())
    module = "finetune_trainer.agent"
    with (
        AgentProcess(tmp_path / "node-0", run, module=module) as first,
        AgentProcess(tmp_path / "node-1", run, node=1, module=module) as second,
    ):
        attempt = make_attempt(nodes=2)
        for agent in (first, second):
            agent.annotate(attempt)
        second.wait_for_step(5)
        (worker,) = find_workers(second)
        os.kill(worker, signal.SIGSTOP)
        waiting, halted = first.wait_for_news().failure, second.wait_for_news().failure
    assert waiting is not None
    assert halted is not None
    assert (halted.failure_class, halted.rank, halted.secondary) == (FailureClass.HANG, 1, False)
    assert "its process is stopped" in halted.message
    assert (waiting.rank, waiting.secondary) == (0, True), waiting
