"""Workers have no credentials and cannot read the agent's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from finetune_trainer.agent.credentials import take_credentials
from finetune_trainer.store.store import Store
from tests.agent.make import AgentProcess, make_attempt, make_run, put_prepared


def test_credentials_are_taken_out_of_the_environment() -> None:
    environment = {"AWS_SECRET_ACCESS_KEY": "s", "GOOGLE_X": "g", "AZURE_X": "a", "HF_TOKEN": "h", "HOME": "/root"}
    taken = take_credentials(environment)
    assert environment == {"HOME": "/root"}
    assert sorted(taken) == ["AWS_SECRET_ACCESS_KEY", "AZURE_X", "GOOGLE_X", "HF_TOKEN"]


def test_a_worker_sees_no_credentials_although_its_agent_has_them(tmp_path: Path) -> None:
    run = make_run(f"file://{tmp_path}/store", steps=2)
    put_prepared(Store.open(run.job_uri), tmp_path)
    secret = {"AWS_SECRET_ACCESS_KEY": "very-secret"}
    with AgentProcess(tmp_path / "node-0", run, environment=secret) as agent:
        agent.annotate(make_attempt())
        agent.wait_for_news()
        assert ("credentials seen: []", 0) in [(line["message"], line["rank"]) for line in agent.lines]


def test_the_agents_memory_and_environment_are_closed_to_its_siblings() -> None:
    program = (
        "import ctypes; from finetune_trainer.agent.credentials import forbid_inspection;"
        "forbid_inspection(); print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    dumpable = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert dumpable.strip() == "0"
