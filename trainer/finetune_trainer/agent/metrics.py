"""Prometheus metrics of one agent. Counters go on over restarts of the workers: attempts are added up here."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest

from finetune_contract.progress import AgentPhase
from finetune_contract.run import RunConfig
from finetune_trainer.agent.productive import ProductiveTime
from finetune_trainer.messages import Evaluated, Heartbeat, Logged, Resumed, WorkerMessage

LABELS = ("namespace", "job", "node")

# A series more for every counter, which says when this process began.
disable_created_metrics()  # type: ignore[no-untyped-call]


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
        self._productive = ProductiveTime()
        self._phase: AgentPhase = "Idle"
        self._phase_since = self._began
        self.attempt = self._gauge("attempt", "Attempt that the agent follows")
        self._step = self._gauge("step", "Optimizer steps done")
        self._total_steps = self._gauge("total_steps", "Optimizer steps of the whole job; 0 while unknown")
        self._loss = self._late_gauge("loss", "Training loss, mean over the last logged steps")
        self._rate = self._late_gauge("learning_rate", "Learning rate of the last logged step")
        self._gradient_norm = self._late_gauge(
            "gradient_norm", "Norm of all gradients at the last logged step, before they are clipped"
        )
        self._epoch = self._gauge("epoch", "Passes over the training rows")
        self._skipped = self._gauge("skipped_steps", "Steps whose rows were passed over because of their loss")
        self._step_seconds = self._late_gauge("step_seconds", "Seconds an optimizer step, median of the last steps")
        self._mfu = self._gauge("mfu_ratio", "Useful FLOP/s by the GPUs' dense bf16 peak")
        self._goodput = self._late_gauge("goodput_ratio", "Share of the agent's time that went into steps that counted")
        self._tokens = self._counter("tokens", "Input tokens of all ranks")
        self._samples = self._counter("samples", "Rows of all ranks")
        self._data_wait = self._counter("data_wait_seconds", "Seconds that steps waited for rows")
        self._stall = self._counter("checkpoint_stall_seconds", "Seconds that steps waited for snapshots")
        self.checkpoint_bytes = self._counter("checkpoint_bytes", "Bytes of checkpoints written to the store")
        self._verified_at = self._late_gauge(
            "checkpoint_timestamp_seconds", "When this agent last saw a checkpoint verified, seconds since 1970"
        )
        self._storage_errors = self._counter("storage_errors", "Requests to object storage that failed, after retries")
        self._phase_seconds = Counter(
            "finetune_phase_seconds",
            "Seconds that this agent spent in a phase",
            (*LABELS, "phase"),
            registry=self._registry,
        )
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
        self._rank_memory = Gauge(
            "finetune_rank_memory_bytes",
            "Peak memory of a rank: gpu: allocated by torch, host: resident set",
            (*LABELS, "rank", "memory"),
            registry=self._registry,
        )
        self._stragglers = self._gauge("stragglers", "Ranks that hold up the others by their own computing")
        self._restarts = self._counter("restarts", "Attempts that this pod has begun after its first one")
        self.news = self._gauge("news", "1 while the operator has not answered what this agent tells")

    def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        now = self._clock()
        self._gpu_seconds.inc((now - self._held_until) * self._gpus)
        self._held_until = now
        self._add_phase(now)
        if self._productive.seconds and now > self._began:
            self._set(self._goodput, min(1.0, self._productive.seconds / (now - self._began)))
        return generate_latest(self._registry)

    def begin(self, attempt: int) -> None:
        """A new attempt: its figures start from nothing."""
        if self._has_begun:
            self._restarts.inc()
        self._has_begun = True
        self.attempt.set(attempt)
        self._rank_step.clear()
        self._own_seconds.clear()
        self._rank_memory.clear()
        self._stragglers.set(0)
        self._counted = None

    def lose_steps(self, steps: int) -> None:
        """Steps of the former attempt that are not in the checkpoint that this one began from."""
        self._lost_steps.inc(steps)

    def enter_phase(self, phase: AgentPhase) -> None:
        """The agent does something else from now on."""
        self._add_phase(self._clock())
        self._phase = phase

    def see_verified(self, at: float) -> None:
        """A checkpoint is verified."""
        self._set(self._verified_at, at)

    def count_storage_error(self) -> None:
        """A request to object storage has failed. Called from any thread."""
        self._storage_errors.inc()

    def receive(self, message: WorkerMessage) -> None:
        """Fold one message of a worker into the metrics."""
        match message:
            case Heartbeat():
                self._rank_step.labels(**self._labels, rank=str(message.rank)).set(message.step)
                self._step.set(message.step)
            case Logged():
                self._add(message)
                self._stragglers.set(len(message.progress.stragglers))
                self._set_ranks(message)
            case Resumed():
                self._productive.begin(message.step)
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
        self._total_steps.set(progress.total_steps)
        self._epoch.set(progress.epoch)
        self._skipped.set(progress.skipped_steps)
        for gauge, value in (
            (self._loss, progress.loss),
            (self._rate, progress.learning_rate),
            (self._step_seconds, progress.step_seconds),
            (self._gradient_norm, new.gradient_norm),
        ):
            if value is not None:
                self._set(gauge, value)
        self._productive.reach(progress.step, progress.training_seconds)
        if new.flops_per_second is not None and self._peak_flops is not None:
            self._mfu.set(new.flops_per_second / self._peak_flops)
        self._counted = new

    def _set_ranks(self, logged: Logged) -> None:
        for rank, seconds in enumerate(logged.rank_seconds):
            self._own_seconds.labels(**self._labels, rank=str(rank)).set(seconds)
        for memory, peaks in (("gpu", logged.rank_gpu_bytes), ("host", logged.rank_host_bytes)):
            for rank, peak in enumerate(peaks):
                self._rank_memory.labels(**self._labels, rank=str(rank), memory=memory).set(peak)

    def _add_phase(self, now: float) -> None:
        self._phase_seconds.labels(**self._labels, phase=self._phase).inc(max(0.0, now - self._phase_since))
        self._phase_since = now

    def _set(self, gauge: Gauge, value: float) -> None:
        gauge.labels(**self._labels).set(value)

    def _late_gauge(self, name: str, text: str) -> Gauge:
        """A gauge that has no sample before its first value: 0 would be a lie."""
        return Gauge(f"finetune_{name}", text, LABELS, registry=self._registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"finetune_{name}", text, LABELS, registry=self._registry).labels(**self._labels)

    def _rank_gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"finetune_{name}", text, (*LABELS, "rank"), registry=self._registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"finetune_{name}", text, LABELS, registry=self._registry).labels(**self._labels)
