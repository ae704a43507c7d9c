"""Progress as short words: what bars show beside themselves and plain lines say. Pure."""

from __future__ import annotations

from typing import Final, Literal

from finetune_contract.progress import AgentPhase, DataSummary, Metrics, PreparationProgress, StepProgress

Stage = Literal["prepare", "train", "evaluate", "publish"]
STAGES: Final[tuple[Stage, ...]] = ("prepare", "train", "evaluate", "publish")
TITLES: Final[dict[Stage, str]] = {
    "prepare": "Prepare data",
    "train": "Train",
    "evaluate": "Evaluate",
    "publish": "Publish",
}
_STAGE_OF: Final[dict[AgentPhase, Stage]] = {
    "Idle": "prepare",
    "Preparing": "prepare",
    "Starting": "train",
    "Training": "train",
    "Evaluating": "train",
    "Stopping": "train",
    "Stopped": "train",
    "Finalizing": "evaluate",
    "Publishing": "publish",
    "Finished": "publish",
}
_DOING: Final[dict[AgentPhase, str]] = {
    "Starting": "loading model",
    "Stopping": "saving a checkpoint",
}
_SHOWN_METRICS: Final = 2


def find_stage(phase: AgentPhase) -> Stage | None:
    """The bar that a phase belongs to; None after a failure, which belongs to the bar that was moving."""
    return _STAGE_OF.get(phase)


def describe_preparation(preparation: PreparationProgress | None, data: DataSummary | None) -> str:
    """What data preparation does, or what it made."""
    if data is not None:
        parts = ", ".join(f"{part.rows:,} {name}" for name, part in data.parts.items())
        return f"{parts} rows{' (prepared before)' if data.reused else ''}"
    if preparation is None:
        return "starting"
    if preparation.total:
        return f"{preparation.stage} {preparation.done:,}/{preparation.total:,}"
    return f"{preparation.stage} {preparation.done:,}" if preparation.done else preparation.stage


def describe_training(phase: AgentPhase, step: StepProgress, metrics: Metrics) -> str:
    """Step, loss, speed and time to go; the newest validation metrics where there are any."""
    parts = [_DOING[phase]] if phase in _DOING else []
    if phase == "Evaluating" and step.step == 0:
        parts.append("the model before training")
    if step.total_steps:
        parts.append(f"step {step.step:,}/{step.total_steps:,}")
    if step.loss is not None:
        parts.append(f"loss {step.loss:.4g}")
    if phase in ("Training", "Evaluating") and step.total_steps:
        parts.append(f"ETA {format_seconds(step.eta_seconds)}")
    if metrics:
        parts.append(f"validation {describe_metrics(metrics)}")
    return "  ".join(parts)


def describe_metrics(metrics: Metrics) -> str:
    """A few metrics in one line: those of the whole, not of one class."""
    whole = {name: value for name, value in metrics.items() if "/" not in name}
    first = sorted(whole, key=lambda name: (name != "f1", name != "accuracy", name != "loss", name))[:_SHOWN_METRICS]
    return " ".join(f"{name} {whole[name]:.4g}" for name in first)


def format_seconds(seconds: float | None) -> str:
    """A duration as 1:02:03 or 2:03; -- while it is unknown."""
    if seconds is None:
        return "--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
