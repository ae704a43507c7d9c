"""Prometheus metrics of one agent. Counters go on over restarts of the workers: attempts are added up here."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from finetune_contract.run import RunConfig
from finetune_trainer.messages import Evaluated, Heartbeat, Logged, WorkerMessage

LABELS = ("namespace", "job", "node")


class Metrics:
    """The agent's metrics, and what is needed to add up the figures of its attempts."""

    def __init__(
        self, run: RunConfig, node: int, peak_flops: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._registry = CollectorRegistry()
        self._labels = {"namespace": run.job.namespace, "job": run.job.name, "node": str(node)}
        self._gpus = run.spec.resources.gpus_per_node
        self._peak_flops = None if peak_flops is None else peak_flops * run.resolved.world_size
        self._clock = clock
        self._began = self._held_until = clock()
        self._has_begun = False
        self._counted: Logged | None = None
        self._steps_seconds = 0.0
        self.attempt = self._gauge("attempt", "Attempt that the agent follows")
        self._step = self._gauge("step", "Optimizer steps done")
        self._loss = self._gauge("loss", "Training loss, mean over the last logged steps")
        self._rate = self._gauge("learning_rate", "Learning rate of the last logged step")
        self._step_seconds = self._gauge("step_seconds", "Seconds an optimizer step, median of the last steps")
        self._mfu = self._gauge("mfu_ratio", "Useful FLOP/s by the GPUs' dense bf16 peak")
        self._goodput = self._gauge("goodput_ratio", "Share of the agent's time that went into steps that counted")
        self._tokens = self._counter("tokens", "Input tokens of all ranks")
        self._samples = self._counter("samples", "Rows of all ranks")
        self._data_wait = self._counter("data_wait_seconds", "Seconds that steps waited for rows")
        self._stall = self._counter("checkpoint_stall_seconds", "Seconds that steps waited for snapshots")
        self.checkpoint_bytes = self._counter("checkpoint_bytes", "Bytes of checkpoints written to the store")
        self._lost_steps = self._counter("lost_steps", "Optimizer steps that had to be done again")
        self._gpu_seconds = self._counter("gpu_seconds", "GPUs x seconds that this pod has held them")
        self._evaluation = Gauge(
            "finetune_eval_metric",
            "Newest figures of an evaluation",
            (*LABELS, "metric", "split"),
            registry=self._registry,
        )
        self._rank_step = self._rank_gauge("rank_step", "Optimizer steps that a rank has done")
        self._own_seconds = self._rank_gauge("rank_step_seconds", "A rank's own seconds a step, without waiting")
        self._stragglers = self._gauge("stragglers", "Ranks that hold up the others by their own computing")
        self._restarts = self._counter("restarts", "Attempts that this pod has begun after its first one")
        self.news = self._gauge("news", "1 while the operator has not answered what this agent tells")

    def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        now = self._clock()
        self._gpu_seconds.inc((now - self._held_until) * self._gpus)
        self._held_until = now
        if self._steps_seconds and now > self._began:
            self._goodput.set(min(1.0, self._steps_seconds / (now - self._began)))
        return generate_latest(self._registry)

    def begin(self, attempt: int) -> None:
        """A new attempt: its figures start from nothing."""
        if self._has_begun:
            self._restarts.inc()
        self._has_begun = True
        self.attempt.set(attempt)
        self._rank_step.clear()
        self._own_seconds.clear()
        self._stragglers.set(0)
        self._counted = None

    def lose_steps(self, steps: int) -> None:
        """Steps of the former attempt that are not in the checkpoint that this one began from."""
        self._lost_steps.inc(steps)

    def receive(self, message: WorkerMessage) -> None:
        """Fold one message of a worker into the metrics."""
        match message:
            case Heartbeat():
                self._rank_step.labels(**self._labels, rank=str(message.rank)).set(message.step)
                self._step.set(message.step)
            case Logged():
                self._add(message)
                self._stragglers.set(len(message.progress.stragglers))
                for rank, seconds in enumerate(message.rank_seconds):
                    self._own_seconds.labels(**self._labels, rank=str(rank)).set(seconds)
            case Evaluated():
                for metric, value in message.metrics.items():
                    self._evaluation.labels(**self._labels, metric=metric, split=message.split).set(value)
            case _:
                pass

    def _add(self, new: Logged) -> None:
        old, progress = self._counted, new.progress
        self._tokens.inc(max(0, new.tokens_total - (old.tokens_total if old else 0)))
        self._samples.inc(max(0, new.samples_total - (old.samples_total if old else 0)))
        self._data_wait.inc(max(0.0, new.data_wait_seconds - (old.data_wait_seconds if old else 0.0)))
        self._stall.inc(max(0.0, new.save_stall_seconds - (old.save_stall_seconds if old else 0.0)))
        for gauge, value in (
            (self._loss, progress.loss),
            (self._rate, progress.learning_rate),
            (self._step_seconds, progress.step_seconds),
        ):
            if value is not None:
                gauge.set(value)
        if old is not None and progress.step_seconds is not None:
            self._steps_seconds += progress.step_seconds * max(0, progress.step - old.progress.step)
        if new.flops_per_second is not None and self._peak_flops is not None:
            self._mfu.set(new.flops_per_second / self._peak_flops)
        self._counted = new

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"finetune_{name}", text, LABELS, registry=self._registry).labels(**self._labels)

    def _rank_gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"finetune_{name}", text, (*LABELS, "rank"), registry=self._registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"finetune_{name}", text, LABELS, registry=self._registry).labels(**self._labels)
