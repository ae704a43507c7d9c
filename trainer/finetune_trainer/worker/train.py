"""The training loop: steps, and between them figures, evaluations, checkpoints and the wish to stop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from finetune_trainer.errors import StoppedError
from finetune_trainer.logs import Event, tell
from finetune_trainer.messages import Evaluated, Logged
from finetune_trainer.publish.figures import format_duration
from finetune_trainer.worker.evaluate import Evaluation, evaluate
from finetune_trainer.worker.guard import Guard
from finetune_trainer.worker.link import AgentLink
from finetune_trainer.worker.materials import Materials
from finetune_trainer.worker.memory import measure_peak
from finetune_trainer.worker.meter import Meter, RankFigures
from finetune_trainer.worker.ranks import Ranks
from finetune_trainer.worker.schedule import Schedule
from finetune_trainer.worker.snapshot import Snapshots
from finetune_trainer.worker.state import TrainerState, add_points
from finetune_trainer.worker.steps import Step, pass_over, prepare_steps, train_step
from finetune_trainer.worker.story import choose_whole, describe_figures, describe_step
from finetune_trainer.worker.votes import Signal, Votes

logger = logging.getLogger(__name__)

STEP_FIGURES: Final = {
    "step",
    "total_steps",
    "epoch",
    "loss",
    "learning_rate",
    "tokens_per_second",
    "step_seconds",
    "eta_seconds",
}
"""Fields of StepProgress that a line of the log has."""


@dataclass
class Run:
    """What the loop works with; `state` is replaced as the run goes on."""

    materials: Materials
    schedule: Schedule
    engine: Any
    ranks: Ranks
    link: AgentLink
    votes: Votes
    meter: Meter
    snapshots: Snapshots
    attempt_dir: Path
    state: TrainerState
    saved_step: int
    """Step of the newest checkpoint."""
    skip_steps: frozenset[int] = frozenset()
    """Steps whose rows are passed over: nothing could be learnt from them in an earlier attempt."""
    saved_at: float = field(default_factory=time.monotonic)
    guard: Guard = field(init=False)

    def __post_init__(self) -> None:
        self.guard = Guard(self.materials, self.schedule, self.ranks, self.link)


def train(run: Run) -> TrainerState:
    """Train to the end, or to early stopping; return the last state. Raises `StoppedError` when asked to stop.

    Every evaluation ends in a checkpoint, so that nothing that was judged can be lost.
    """
    _measure_baseline(run)
    if _is_evaluation_due(run):
        # The attempt before was stopped within this evaluation.
        _evaluate_and_save(run)
    for step in iterate_steps(run):
        if _has_run_out(run):
            logger.info(
                "stops early after step %d: %s has not become better than at step %d",
                step,
                run.materials.run.resolved.metric,
                run.state.best.step,
                extra=tell(Event.STOPPED_EARLY, step=step),
            )
            break
    run.votes.settle()
    return run.state


def iterate_steps(run: Run) -> Iterator[int]:
    """Do one step after another, with all that is due after it; yields the number of each when it is done."""
    # Not to be asked of the model: a wrapper may say that it trains while what it wraps is as from_pretrained left it.
    run.engine.train()
    since = rows_since = time.monotonic()
    run.link.marker.enter("data", run.state.step + 1)
    for step in _remaining_steps(run):
        run.meter.wait_for_rows(time.monotonic() - rows_since)
        learning_rate = float(run.engine.get_lr()[0])
        _train_one(run, step)
        if step.micro_batches:
            run.meter.count(step, time.monotonic() - since)
        run.link.marker.finish_step(run.meter.step_seconds)
        since = time.monotonic()
        run.link.beat("training", step.number)
        signal = run.votes.poll(_wants_save(run))
        if run.schedule.logs_at(step.number):
            _log(run, learning_rate)
        run.snapshots.prepare(run.state)
        acted = _act_between_steps(run, signal)
        rows_since = time.monotonic()
        if acted:
            run.engine.train()
            since = rows_since
        run.link.marker.enter("data", step.number + 1)
        yield step.number


def _has_run_out(run: Run) -> bool:
    return run.state.best.has_run_out(run.materials.run.spec.evaluation.early_stopping)


def _remaining_steps(run: Run) -> Iterator[Step]:
    if _has_run_out(run):
        return iter(())
    return prepare_steps(run.materials, run.schedule, run.ranks, run.state.step, run.skip_steps)


def _train_one(run: Run, step: Step) -> None:
    figures = {
        "step": step.number,
        "consumed_samples": run.schedule.rows_consumed(step.number),
        "epoch": run.schedule.epoch(step.number),
    }
    if step.number in run.skip_steps:
        pass_over(run.engine)
        skipped = (*run.state.skipped_steps, step.number)
        run.state = run.state.model_copy(update={**figures, "skipped_steps": skipped})
        return
    recent = run.state.recent_losses
    result = train_step(
        run.engine,
        step,
        run.materials.task,
        run.ranks,
        label_smoothing=run.materials.run.spec.training.label_smoothing,
        max_grad_norm=run.materials.run.spec.training.max_grad_norm,
        marker=run.link.marker,
        own_time=run.meter.own_time,
        refuses=(lambda losses: run.guard.refuses(step, losses, recent)) if run.guard.skips else None,
    )
    run.state = run.guard.take(step, result, run.state.model_copy(update=figures))


def _log(run: Run, learning_rate: float) -> None:
    """Read the losses since the last time: but for checkpoints, where the host waits for the device."""
    run.state = run.guard.read(run.state)
    loss, step = run.guard.take_mean(), run.state.step
    figures = _gather_rank_figures(run)
    values = {"train/learning_rate": learning_rate} | ({} if loss is None else {"train/loss": loss})
    run.state = run.state.model_copy(update={"curves": add_points(run.state.curves, step, values)})
    if run.ranks.is_first:
        skipped = len(run.state.skipped_steps)
        norm = _read_gradient_norm(run)
        message: Logged = run.meter.report(
            step,
            loss,
            learning_rate,
            figures,
            skipped_steps=skipped,
            gradient_norm=norm,
            seconds_to_save=_find_seconds_to_save(run),
        )
        logger.info(
            "%s",
            describe_step(message.progress),
            extra=tell(Event.STEP, gradient_norm=norm, **message.progress.model_dump(include=STEP_FIGURES)),
        )
        run.link.send(message)


def _read_gradient_norm(run: Run) -> float | None:
    """The norm of the last step, where one was measured anyway. The host has waited for the device before."""
    norm = run.engine.get_global_grad_norm()
    norm = run.guard.gradient_norm if norm is None else norm
    return None if norm is None else float(norm)


def _gather_rank_figures(run: Run) -> RankFigures:
    """Of each rank: own seconds a step since the last time, and its peak of memory. One collective."""
    size, rank, device = run.ranks.world_size, run.ranks.rank, run.ranks.device
    own = [0.0] * (3 * size)
    own[rank::size] = [run.meter.take_own_seconds(), *measure_peak(device)]
    summed = run.ranks.sum(own)
    gpu, host = (tuple(int(peak) for peak in summed[at : at + size]) for at in (size, 2 * size))
    return RankFigures(tuple(summed[:size]), gpu if device.type == "cuda" else (), host)


def _act_between_steps(run: Run, signal: Signal) -> bool:
    """Stop, evaluate or save where it is due; whether anything was done."""
    if signal is Signal.STOP:
        _stop(run)
    if run.schedule.evaluates_at(run.state.step):
        run.state = run.guard.read(run.state)
        _evaluate_and_save(run)
    elif signal is Signal.SAVE or run.schedule.saves_at(run.state.step):
        _save(run)
    else:
        return False
    return True


def _wants_save(run: Run) -> bool:
    return run.ranks.is_first and _find_seconds_to_save(run) <= 0


def _find_seconds_to_save(run: Run) -> float:
    """Until a checkpoint is due by time."""
    minutes = run.materials.run.spec.checkpoints.every_minutes
    return math.inf if minutes is None else minutes * 60 - (time.monotonic() - run.saved_at)


def _save(run: Run, *, stopping: bool = False) -> None:
    # No checkpoint may hold what came after a loss that is not a number.
    run.state = run.guard.read(run.state)
    began = time.monotonic()
    written = run.snapshots.write(run.state, stopping=stopping)
    run.saved_at = time.monotonic()
    seconds = run.saved_at - began
    run.meter.save_stall_seconds += seconds
    if written:
        run.saved_step = run.state.step
        logger.info(
            "snapshot of step %d taken in %s; it is being uploaded",
            run.state.step,
            format_duration(seconds),
            extra=tell(Event.CHECKPOINT_SAVED, step=run.state.step, seconds=seconds),
        )


def _stop(run: Run) -> None:
    """Save what is not saved and leave."""
    run.votes.settle()
    run.link.beat("stopping", run.state.step)
    if run.state.step > run.saved_step:
        _save(run, stopping=True)
    raise StoppedError(f"stopped after step {run.state.step}; the next attempt goes on from there")


def _is_evaluation_due(run: Run) -> bool:
    step = run.state.step
    return step > 0 and run.schedule.evaluates_at(step) and run.state.evaluated_step < step


def tell_evaluation(run: Run, part: str) -> None:
    """Say that an evaluation begins: it may take long."""
    if run.ranks.is_first:
        rows = len(run.materials.parts[part])
        logger.info("evaluating %d %s rows", rows, part, extra=tell(Event.EVALUATING, split=part, rows=rows))


def _evaluate(run: Run, part: str) -> Evaluation:
    def after_batch() -> None:
        run.link.beat("evaluating", run.state.step)
        if run.votes.poll() is Signal.STOP:
            _stop(run)

    run.link.beat("evaluating", run.state.step)
    tell_evaluation(run, part)
    return evaluate(run.engine.module, run.materials.parts[part], run.materials, run.ranks, after_batch)


def _measure_baseline(run: Run) -> None:
    """Test figures of the model before training, once in a job."""
    if run.state.baseline is not None or run.state.step > 0:
        return
    metrics = _evaluate(run, "test").metrics if "test" in run.materials.parts else {}
    run.state = run.state.model_copy(update={"baseline": metrics})
    if run.ranks.is_first and metrics:
        logger.info(
            "before training: test %s",
            describe_figures(metrics, run.materials.run.resolved.metric),
            extra=tell(Event.EVALUATED, step=0, split="test", metrics=choose_whole(metrics)),
        )
        run.link.send(Evaluated(step=0, split="test", metrics=metrics, best=False))


def _evaluate_and_save(run: Run) -> None:
    step, state = run.state.step, run.state
    metrics = _evaluate(run, "validation").metrics if "validation" in run.materials.parts else {}
    resolved, early_stopping = run.materials.run.resolved, run.materials.run.spec.evaluation.early_stopping
    best = state.best
    value = metrics.get(resolved.metric)
    if value is not None:
        best = best.judge(step, value, resolved.greater_is_better, early_stopping.min_delta if early_stopping else 0.0)
    elif not metrics:
        # Without validation rows the last weights are the ones to keep.
        best = best.model_copy(update={"step": step})
    points = {f"validation/{name}": figure for name, figure in metrics.items() if "/" not in name}
    run.state = state.model_copy(
        update={
            "metrics": metrics,
            "evaluated_step": step,
            "best": best,
            "curves": add_points(state.curves, step, points),
        }
    )
    if run.ranks.is_first and metrics:
        is_best = best.step == step
        logger.info(
            "step %d: validation %s; %s",
            step,
            describe_figures(metrics, run.materials.run.resolved.metric),
            "the best so far" if is_best else f"the best was step {best.step}",
            extra=tell(Event.EVALUATED, step=step, split="validation", metrics=choose_whole(metrics), best=is_best),
        )
        run.link.send(Evaluated(step=step, split="validation", metrics=metrics, best=is_best))
    _save(run)
