"""Names and labels are frozen: who adds one does it on purpose. Counters go on over attempts."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from finetune_contract.progress import StepProgress, Straggler
from finetune_trainer.agent.metrics import Metrics
from finetune_trainer.messages import Evaluated, Heartbeat, Logged, Resumed
from tests.agent.make import make_run

FROZEN = {
    "finetune_attempt",
    "finetune_checkpoint_bytes_total",
    "finetune_checkpoint_stall_seconds_total",
    "finetune_checkpoint_timestamp_seconds",
    "finetune_data_wait_seconds_total",
    "finetune_epoch",
    "finetune_eval_metric",
    "finetune_goodput_ratio",
    "finetune_gpu_seconds_total",
    "finetune_gradient_norm",
    "finetune_learning_rate",
    "finetune_loss",
    "finetune_lost_steps_total",
    "finetune_mfu_ratio",
    "finetune_news",
    "finetune_phase_seconds_total",
    "finetune_rank_memory_bytes",
    "finetune_rank_step",
    "finetune_rank_step_seconds",
    "finetune_restarts_total",
    "finetune_samples_total",
    "finetune_skipped_steps",
    "finetune_step",
    "finetune_step_seconds",
    "finetune_storage_errors_total",
    "finetune_stragglers",
    "finetune_tokens_total",
    "finetune_total_steps",
}


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _log(step: int, flops: float | None = None, seconds: float = 0.0) -> Logged:
    progress = StepProgress(
        step=step, total_steps=20, loss=0.5, learning_rate=1e-4, step_seconds=2.0, training_seconds=seconds
    )
    return Logged(
        progress=progress,
        tokens_total=step * 100,
        samples_total=step * 8,
        data_wait_seconds=step * 0.5,
        save_stall_seconds=step * 0.25,
        flops_per_second=flops,
        gradient_norm=0.7,
        rank_seconds=(1.0, 2.0),
        rank_gpu_bytes=(30, 40),
        rank_host_bytes=(50, 60),
    )


def _read(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(metrics.render().decode())
    ours = {"namespace": "research", "job": "spam", "node": "1"}
    found = {}
    for family in families:
        for sample in family.samples:
            assert ours.items() <= sample.labels.items()
            rest = frozenset(item for item in sample.labels.items() if item[0] not in ours)
            found[sample.name, rest] = sample.value
    return found


def _make_metrics(peak_flops: float | None = None, clock: _Clock | None = None, **spec: Any) -> Metrics:
    return Metrics(make_run("file:///store", **spec), 1, peak_flops, clock or _Clock())


def test_names_and_labels_are_frozen() -> None:
    clock = _Clock()
    metrics = _make_metrics(peak_flops=1e12, clock=clock)
    metrics.see_verified(1e9)
    clock.now += 40.0
    metrics.receive(Heartbeat(rank=3, phase="training", step=5, at=0.0))
    metrics.receive(Evaluated(step=5, split="validation", metrics={"f1": 0.8}, best=True))
    metrics.receive(_log(5, flops=5e11, seconds=10.0))
    names = {(name, tuple(sorted(key for key, _ in labels))) for name, labels in _read(metrics)}
    labels: dict[str, tuple[str, ...]] = {"finetune_eval_metric": ("metric", "split")}
    labels |= dict.fromkeys(("finetune_rank_step", "finetune_rank_step_seconds"), ("rank",))
    labels |= {"finetune_rank_memory_bytes": ("memory", "rank"), "finetune_phase_seconds_total": ("phase",)}
    assert names == {(name, labels.get(name, ())) for name in FROZEN}


def test_what_is_not_known_has_no_sample() -> None:
    names = {name for name, _ in _read(_make_metrics())}
    unknown = {
        "loss",
        "gradient_norm",
        "learning_rate",
        "step_seconds",
        "goodput_ratio",
        "checkpoint_timestamp_seconds",
    }
    assert names.isdisjoint({f"finetune_{name}" for name in unknown})
    assert {"finetune_lost_steps_total", "finetune_storage_errors_total", "finetune_restarts_total"} <= names


def test_counters_add_up_the_attempts() -> None:
    metrics = _make_metrics()
    metrics.begin(1)
    metrics.receive(_log(5))
    metrics.receive(_log(10))
    metrics.begin(2)
    metrics.lose_steps(3)
    metrics.receive(_log(4))
    values = _read(metrics)
    nothing: frozenset[tuple[str, str]] = frozenset()
    assert values["finetune_tokens_total", nothing] == 1400
    assert values["finetune_samples_total", nothing] == 112
    assert values["finetune_data_wait_seconds_total", nothing] == 7.0
    assert values["finetune_checkpoint_stall_seconds_total", nothing] == 3.5
    assert values["finetune_lost_steps_total", nothing] == 3
    assert values["finetune_attempt", nothing] == 2
    assert values["finetune_restarts_total", nothing] == 1


def test_ratios_and_gpu_seconds_follow_the_clock() -> None:
    clock = _Clock()
    metrics = _make_metrics(peak_flops=1e12, clock=clock, resources={"gpusPerNode": 4})
    metrics.receive(_log(5, flops=4e11, seconds=5.0))
    metrics.receive(_log(10, flops=4e11, seconds=10.0))
    clock.now += 40.0
    values = _read(metrics)
    nothing: frozenset[tuple[str, str]] = frozenset()
    assert values["finetune_gpu_seconds_total", nothing] == 160.0
    assert values["finetune_goodput_ratio", nothing] == 0.25
    assert values["finetune_mfu_ratio", nothing] == 0.4


def test_goodput_loses_the_steps_that_are_done_again() -> None:
    clock = _Clock()
    metrics = _make_metrics(clock=clock)
    metrics.begin(1)
    metrics.receive(Resumed(step=0))
    metrics.receive(_log(10, seconds=20.0))
    metrics.begin(2)
    metrics.receive(Resumed(step=5))
    metrics.receive(_log(8, seconds=6.0))
    clock.now += 64.0
    assert _read(metrics)["finetune_goodput_ratio", frozenset()] == 16.0 / 64.0


def test_time_goes_to_the_phase_in_which_it_passes() -> None:
    clock = _Clock()
    metrics = _make_metrics(clock=clock)
    clock.now += 1.0
    for phase, seconds in (("Preparing", 2.0), ("Starting", 4.0), ("Training", 8.0), ("Starting", 16.0)):
        metrics.enter_phase(phase)  # type: ignore[arg-type]
        clock.now += seconds
    found = {
        labels: value for (name, labels), value in _read(metrics).items() if name == "finetune_phase_seconds_total"
    }
    times = {"Idle": 1.0, "Preparing": 2.0, "Starting": 20.0, "Training": 8.0}
    assert found == {frozenset({("phase", phase)}): seconds for phase, seconds in times.items()}


def test_every_rank_has_its_peak_of_memory() -> None:
    metrics = _make_metrics()
    metrics.receive(_log(5))
    found = {labels: value for (name, labels), value in _read(metrics).items() if name == "finetune_rank_memory_bytes"}
    peaks = {("gpu", "0"): 30, ("gpu", "1"): 40, ("host", "0"): 50, ("host", "1"): 60}
    assert found == {frozenset({("memory", memory), ("rank", rank)}): peak for (memory, rank), peak in peaks.items()}


def test_a_new_attempt_has_no_stragglers_yet() -> None:
    metrics = _make_metrics()
    logged = _log(5)
    progress = logged.progress.model_copy(update={"stragglers": (Straggler(rank=1, ratio=2.0),)})
    metrics.receive(logged.model_copy(update={"progress": progress}))
    before = _read(metrics)
    metrics.begin(2)
    after = _read(metrics)
    nothing: frozenset[tuple[str, str]] = frozenset()
    second = frozenset({("rank", "1")})
    assert (before["finetune_stragglers", nothing], before["finetune_rank_step_seconds", second]) == (1, 2.0)
    assert after["finetune_stragglers", nothing] == 0
    assert ("finetune_rank_step_seconds", second) not in after
