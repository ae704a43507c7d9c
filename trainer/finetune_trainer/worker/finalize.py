"""The end of a run: export the best weights, judge what was exported, decide the gates."""

from __future__ import annotations

import gc
import logging
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Final

import torch
import torch.distributed as dist
from torch.nn import Module
from transformers import PreTrainedModel

from finetune_contract.progress import EvaluationResult
from finetune_trainer.errors import StoppedError
from finetune_trainer.evaluation.gate import judge_gates
from finetune_trainer.logs import Event, tell
from finetune_trainer.messages import Finalized, Warned
from finetune_trainer.publish.export import export_model, read_dtype
from finetune_trainer.results import FinalEvaluation
from finetune_trainer.worker.evaluate import Evaluation, evaluate
from finetune_trainer.worker.flops import count_parameters
from finetune_trainer.worker.materials import DTYPES, Materials, read_model
from finetune_trainer.worker.snapshot_files import SnapshotFiles
from finetune_trainer.worker.story import choose_whole, describe_figures, describe_gate
from finetune_trainer.worker.train import Run, tell_evaluation
from finetune_trainer.worker.votes import Signal
from finetune_trainer.worker.weights import FILE_WEIGHTS, WEIGHTS_FOLDER, read_weights, save_weights

logger = logging.getLogger(__name__)

EXPORT_FOLDER: Final = "export"
BEST_FOLDER: Final = "best"
"""Beside the folders of attempts: weights of the best steps, kept by the agent, each in <checkpoint>/weights."""
LAST_FOLDER: Final = "last"
"""Weights of the last step, where the best ones are lost."""
FILE_EVALUATION: Final = "evaluation.json"
WORST_SHOWN: Final = 20
PACKAGES: Final = ("torch", "transformers", "deepspeed", "datasets", "peft", "tokenizers", "safetensors")


def finalize(run: Run, earlier: tuple[Path, ...], began: float) -> FinalEvaluation:
    """Export, judge, decide; on rank 0 attempt_dir/export and attempt_dir/evaluation.json are complete. A collective.

    `earlier` are folders where the best weights may lie that an attempt before this one found.
    """
    run.link.beat("finalizing", run.state.step)
    total, trained, _ = count_parameters(run.engine.module)
    best = _find_best_weights(run, earlier)
    run.engine.destroy()
    run.engine = None
    gc.collect()
    export = run.attempt_dir / EXPORT_FOLDER
    if run.ranks.is_first:
        _export(run.materials, best, export)
        step = run.state.best.step
        logger.info("exported the weights of step %d, the best", step, extra=tell(Event.EXPORTED, step=step))
    run.ranks.barrier()
    model = _load_exported(run, export)
    judged: dict[str, Evaluation] = {
        name: _judge(run, model, name) for name in ("validation", "test") if name in run.materials.parts
    }
    final = _compose(run, judged, total, trained, time.time() - began)
    if run.ranks.is_first:
        _tell_figures(final.evaluation, run.materials.run.resolved.metric)
        (run.attempt_dir / FILE_EVALUATION).write_text(final.to_json())
        run.link.send(Finalized(step=run.state.step))
    run.votes.settle()
    return final


def _tell_figures(evaluation: EvaluationResult, first: str) -> None:
    for split, metrics in (("validation", evaluation.validation), ("test", evaluation.test)):
        if not metrics:
            continue
        before = f" (before training: {describe_figures(evaluation.baseline, first)})" if split == "test" else ""
        figures = tell(Event.JUDGED, step=evaluation.step, split=split, metrics=choose_whole(metrics))
        logger.info("the exported model: %s %s%s", split, describe_figures(metrics, first), before, extra=figures)
    for gate in evaluation.gate:
        figures = tell(Event.GATE_JUDGED, **gate.model_dump(exclude_none=True))
        logger.log(logging.INFO if gate.passed else logging.WARNING, "%s", describe_gate(gate), extra=figures)


def _find_best_weights(run: Run, earlier: tuple[Path, ...]) -> Path:
    """Folder of the best weights; where they are lost, the last ones take their place and a warning says so."""
    here = run.snapshots.find_weights(run.state.best.step)
    kept = (run.attempt_dir.parent / BEST_FOLDER).glob(f"step-{run.state.best.step:08d}-a*")
    known = (path for folder in (*kept, *earlier) for path in (folder / WEIGHTS_FOLDER, folder))
    found = next((path for path in (*([here] if here else []), *known) if (path / FILE_WEIGHTS).is_file()), None)
    last = run.attempt_dir / LAST_FOLDER
    if run.ranks.broadcast(found is not None):
        return found or last
    save_weights(run.engine.module, SnapshotFiles(), last / FILE_WEIGHTS, keep=run.ranks.is_first)
    if run.ranks.is_first:
        run.link.send(
            Warned(
                message=f"the best weights, of step {run.state.best.step}, were not found; the last ones, of step "
                f"{run.state.step}, are exported"
            )
        )
    return last


def _export(materials: Materials, best: Path, folder: Path) -> None:
    # The number type of training, so that adapters are merged as they were trained.
    shutil.rmtree(folder, ignore_errors=True)
    base = read_model(materials, DTYPES[materials.run.resolved.precision])
    model = materials.strategy.prepare(base, materials.run.spec.strategy, materials.task)
    read_weights(model, best)
    name = materials.run.spec.model.source.removeprefix("hf://")
    export_model(model, materials.strategy, materials.tokenizer, materials.model_dir, base_name=name, folder=folder)


def _load_exported(run: Run, export: Path) -> Module:
    """The exported model on every rank: rank 0 reads it from the folder, the others receive its weights."""
    materials, ranks = run.materials, run.ranks
    dtype = read_dtype(materials.model_dir)
    if ranks.is_first:
        model: PreTrainedModel = materials.task.load_model(export, materials.labels, dtype)
    else:
        model = read_model(materials, dtype)
    model.to(ranks.device)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            dist.broadcast(tensor, src=0)
    exported: Module = model
    return exported


def _judge(run: Run, model: Module, part: str) -> Evaluation:
    def after_batch() -> None:
        run.link.beat("finalizing", run.state.step)
        if run.votes.poll() is Signal.STOP:
            # The last evaluation's checkpoint holds everything.
            raise StoppedError("stopped during the final evaluation; the next attempt repeats it")

    tell_evaluation(run, part)
    worst = WORST_SHOWN if part == "test" else 0
    return evaluate(model, run.materials.parts[part], run.materials, run.ranks, after_batch, keep_worst=worst)


def _compose(run: Run, judged: dict[str, Evaluation], parameters: int, trained: int, seconds: float) -> FinalEvaluation:
    state, spec = run.state, run.materials.run.spec
    figures = {name: evaluation.metrics for name, evaluation in judged.items()}
    test = judged.get("test")
    return FinalEvaluation(
        evaluation=EvaluationResult(
            validation=figures.get("validation", {}),
            test=figures.get("test", {}),
            baseline=state.baseline or {},
            gate=judge_gates(spec.evaluation.gate, figures),
            step=state.best.step,
        ),
        best_step=state.best.step,
        total_steps=state.step,
        curves=state.curves,
        confusion=test.confusion if test else None,
        worst_examples=test.worst if test else (),
        parameters_total=parameters,
        parameters_trained=trained,
        seconds=seconds,
        versions={package: version(package) for package in PACKAGES},
    )
