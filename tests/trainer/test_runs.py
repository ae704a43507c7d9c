"""Whole runs of one or two workers: which weights are exported, when training ends, what is saved and said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline

from finetune_contract.run import RunConfig
from finetune_trainer.messages import Evaluated, Finalized, Heartbeat, Logged, SnapshotReady, Warned
from tests.trainer.conftest import Folders
from tests.trainer.make import LABELS, losses_of, make_model_folder, make_offer, make_prepared, make_run, make_tasks
from tests.trainer.pool import Attempt, run_attempt

pytestmark = pytest.mark.distributed


def train(run: RunConfig, folders: Folders, work_dir: Path, **changes: Any) -> Attempt:
    attempt = run_attempt(make_tasks(run, folders.model, folders.data, work_dir, **changes))
    assert attempt.exit_codes == [0] * run.resolved.world_size
    return attempt


def test_the_best_weights_are_exported_and_judged_and_not_the_last(classifier: Folders, tmp_path: Path) -> None:
    # The greatest loss counts as the best here, so that it is not the last step's.
    attempt = train(make_run(greater_is_better=True, evaluate_every_epochs=0.5), classifier, tmp_path)
    judged = {message.step: message.metrics for message in attempt.heard(Evaluated) if message.split == "validation"}
    best = max(judged, key=lambda step: judged[step]["loss"])
    final = attempt.evaluation
    assert (final.best_step, final.evaluation.step, final.total_steps) == (best, best, 10)
    assert best != 10
    assert final.evaluation.validation == pytest.approx(judged[best], abs=1e-6)


def test_training_ends_early_when_waiting_no_longer_pays(classifier: Folders, tmp_path: Path) -> None:
    spec = {"evaluation": {"earlyStopping": {"patience": 2, "minDelta": 100.0}}}
    run = make_run(spec=spec, epochs=None, max_steps=50, evaluate_every_steps=3, evaluate_every_epochs=None)
    attempt = train(run, classifier, tmp_path)
    assert attempt.evaluation.total_steps == 9
    assert [message.step for message in attempt.heard(SnapshotReady)] == [3, 6, 9]


def test_checkpoints_come_by_the_clock_too(classifier: Folders, tmp_path: Path) -> None:
    run = make_run(spec={"checkpoints": {"everyMinutes": 0.00001}}, world_size=2, workers_per_node=2)
    attempt = train(run, classifier, tmp_path)
    saved = [[message.step for message in worker.heard(SnapshotReady)] for worker in attempt.workers]
    assert saved[0] == saved[1]
    assert set(saved[0]) > {5, 10}


def test_every_checkpoint_says_what_it_holds(classifier: Folders, tmp_path: Path) -> None:
    run = make_run(world_size=2, workers_per_node=2, zero_stage=2, max_steps=5)
    first, second = (worker.heard(SnapshotReady) for worker in train(run, classifier, tmp_path).workers)
    folder = Path(first[0].folder)
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix not in ("", ".py")}
    assert set(first[0].files) | set(second[0].files) == present
    assert not set(first[0].files) & set(second[0].files)
    assert (first[0].best, first[0].metrics.keys() >= {"loss", "f1"}) == (True, True)
    assert first[0].state == {"consumed_samples": 40, "world_size": 2, "zero_stage": 2, "seed": 42, "epoch": 1.0}
    assert (second[0].best, second[0].metrics, second[0].state) == (False, {}, {})


def test_figures_are_logged_with_their_totals(classifier: Folders, tmp_path: Path) -> None:
    attempt = train(make_run(), classifier, tmp_path)
    last = attempt.heard(Logged)[-1]
    assert (last.progress.step, last.progress.total_steps, last.progress.epoch) == (10, 10, 2.0)
    assert (last.samples_total, last.progress.eta_seconds) == (80, 0.0)
    assert last.tokens_total == 2 * sum(_lengths(classifier))
    assert last.flops_per_second is not None
    phases = dict.fromkeys(message.phase for message in attempt.heard(Heartbeat))
    assert list(phases) == ["starting", "evaluating", "training", "saving", "finalizing"]
    assert attempt.heard(Finalized) == [Finalized(step=10)]


def _lengths(folders: Folders) -> list[int]:
    from datasets import load_from_disk

    lengths: list[int] = load_from_disk(str(folders.data / "train"))["length"]
    return lengths


def test_without_validation_rows_the_last_weights_are_taken(tmp_path: Path) -> None:
    model = make_model_folder(tmp_path / "model")
    folders = Folders(model, make_prepared(tmp_path / "data", model, sizes={"train": 20}))
    final = train(make_run(), folders, tmp_path / "work").evaluation
    assert (final.best_step, final.total_steps) == (5, 5)
    assert (final.evaluation.validation, final.evaluation.test, final.confusion) == ({}, {}, None)


def test_an_attempt_without_steps_left_only_finalizes(classifier: Folders, tmp_path: Path) -> None:
    former = train(make_run(), classifier, tmp_path / "former")
    last = former.heard(SnapshotReady)[-1]
    offers = (make_offer(last.folder, last.step),)
    attempt = train(make_run(), classifier, tmp_path / "work", offers=offers, best_dir=last.folder)
    same = {"seconds": 0.0}
    assert attempt.evaluation.model_copy(update=same) == former.evaluation.model_copy(update=same)
    assert not attempt.heard(SnapshotReady)


def test_lost_best_weights_are_said_and_the_last_ones_taken(classifier: Folders, tmp_path: Path) -> None:
    run = make_run(greater_is_better=True, evaluate_every_epochs=0.5)
    former = train(run, classifier, tmp_path / "former")
    last = former.heard(SnapshotReady)[-1]
    assert not last.best
    attempt = train(run, classifier, tmp_path / "work", offers=(make_offer(last.folder, last.step),))
    (warned,) = attempt.heard(Warned)
    assert "were not found; the last ones, of step 10, are exported" in warned.message


@pytest.mark.parametrize(
    "zero_stage", [pytest.param(0), *(pytest.param(s, marks=pytest.mark.matrix) for s in (1, 2, 3))]
)
@pytest.mark.parametrize("precision", ["bf16"])
def test_half_precision_learns(classifier: Folders, tmp_path: Path, zero_stage: int, precision: str) -> None:
    run = make_run(precision=precision, zero_stage=zero_stage, epochs=4.0)
    losses = losses_of(train(run, classifier, tmp_path).evaluation.curves)
    assert sum(losses[-5:]) < sum(losses[:5])


@pytest.mark.parametrize("method", ["full", "lora"])
def test_recomputed_activations_change_nothing(plain_classifier: Folders, tmp_path: Path, method: str) -> None:
    curves = []
    for checkpointing in (False, True):
        spec = {"training": {"gradientCheckpointing": checkpointing}, "strategy": {"method": method}}
        run = make_run(spec=spec, epochs=1.0)
        curves.append(losses_of(train(run, plain_classifier, tmp_path / str(checkpointing)).evaluation.curves))
    assert curves[0] == pytest.approx(curves[1], abs=1e-6)


def test_an_exported_chat_model_generates(chat_model: Folders, tmp_path: Path) -> None:
    run = make_run("text-generation", {"strategy": {"method": "lora"}}, world_size=2, workers_per_node=2)
    final = train(run, chat_model, tmp_path).evaluation
    assert final.evaluation.test["perplexity"] < final.evaluation.baseline["perplexity"]
    assert final.parameters_trained < final.parameters_total
    generate = pipeline("text-generation", model=str(tmp_path / "node-0" / "export"))
    answer = generate([{"role": "user", "content": "word1 word2"}], max_new_tokens=3)
    assert answer[0]["generated_text"][-1]["role"] == "assistant"


def test_class_names_stand_in_the_exported_model(classifier: Folders, tmp_path: Path) -> None:
    train(make_run(epochs=0.5), classifier, tmp_path)
    classify = pipeline("text-classification", model=str(tmp_path / "node-0" / "export"))
    assert classify("word0 word3")[0]["label"] in LABELS
