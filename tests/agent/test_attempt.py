"""Whole attempts of real agents with the tiny worker."""

from __future__ import annotations

from pathlib import Path

from finetune_contract import names
from finetune_contract.progress import Outcome
from finetune_trainer.store.ledger import read_ledger
from finetune_trainer.store.manifest import read_manifest
from finetune_trainer.store.store import Store
from tests.agent.make import AgentProcess, make_attempt, make_run, put_prepared


def test_one_node_goes_from_annotation_to_outcome_and_leaves_on_finish(tmp_path: Path) -> None:
    run = make_run(f"file://{tmp_path}/store", processes=2)
    store = Store.open(run.job_uri)
    put_prepared(store, tmp_path)
    with AgentProcess(tmp_path / "node-0", run) as agent:
        agent.annotate(make_attempt())
        progress = agent.wait_for_news()
        assert progress.phase == "Finished"
        outcome = store.get_document(names.FILE_OUTCOME, Outcome)
        assert progress.outcome == outcome
        assert outcome is not None
        assert (outcome.succeeded, outcome.reason, outcome.step) == (True, "Published", 20)
        assert agent.finish() == 0
        assert agent.end["uri"] == f"{store.uri}/published"
    published = {entry.path for entry in store.list(names.PUBLISHED_FOLDER)}
    assert {"published/config.json", "published/model.safetensors", "published/finetune-manifest.json"} <= published
    states = {record.step: record.state for record in read_ledger(store).checkpoints}
    assert states == {15: "Evaluated", 20: "Promoted"}


def test_two_nodes_write_one_manifest_that_holds_the_files_of_both(tmp_path: Path) -> None:
    run = make_run(f"file://{tmp_path}/store", nodes=2)
    store = Store.open(run.job_uri)
    put_prepared(store, tmp_path)
    with (
        AgentProcess(tmp_path / "node-0", run) as first,
        AgentProcess(tmp_path / "node-1", run, node=1) as second,
    ):
        attempt = make_attempt(nodes=2)
        second.annotate(attempt)
        first.annotate(attempt)
        assert first.wait_for_news().outcome == second.wait_for_news().outcome
        assert (first.finish(), second.finish()) == (0, 0)
    found = read_manifest(store, "checkpoints/step-00000020-a1")
    assert found is not None
    assert sorted(found[0].files) == [
        "node-0/shard-0.bin",
        "node-0/trainer_state.json",
        "node-0/weights/model.safetensors",
        "node-1/shard-1.bin",
    ]
    assert (found[0].consumed_samples, found[0].world_size) == (160, 2)
