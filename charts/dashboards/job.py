"""One job: what it learns, how fast, on which ranks, and where its time went."""

from __future__ import annotations

from typing import Any

from charts.dashboards.boards import board, choose, mark
from charts.dashboards.colours import (
    ANY_IS_BAD,
    GREY,
    LOW_IS_BAD,
    MANY_ATTEMPTS,
    ORANGE,
    PHASE_COLOURS,
    PLAIN,
    RED,
)
from charts.dashboards.panels import Query, bars, curve, figure, shares
from charts.dashboards.promql import increase, pick, rate, share, total

UID = "finetune-job"
JOB = 'namespace="$namespace", job="$job"'
FIRST_NODE = f'{JOB}, node="0"'
"""The figures of the whole job are rank 0's; its agent is the one of node 0."""


def make() -> dict[str, Any]:
    """The whole dashboard."""
    return board(
        UID,
        "One FineTuneJob: loss and metrics, speed, ranks, attempts, and where the time went.",
        variables=[
            choose("namespace", "Namespace", "finetune_job_info"),
            choose("job", "Job", "finetune_job_info", 'namespace="$namespace"'),
        ],
        rows={
            "Where it stands": _standing(),
            "Learning": _learning(),
            "Speed": _speed(),
            "Ranks": _ranks(),
            "Attempts and time": _time(),
            "Storage": _storage(),
        },
        marks=[
            mark(
                "Attempts",
                _name_value(
                    "attempt", f"({_of_job('finetune_attempt', FIRST_NODE)}) > ({_before('finetune_attempt')})"
                ),
                ORANGE,
                "Attempt {{attempt}} began",
            ),
            mark(
                "Verified checkpoints",
                f"{_of_job('finetune_job_checkpoint_timestamp_seconds')} * 1000",
                "semi-dark-blue",
                "A checkpoint was verified",
                timed=True,
                shown=False,
            ),
        ],
        since="now-3h",
        refresh="15s",
    )


def _of_job(series: str, where: str = JOB) -> str:
    """One figure for the job, whichever pod tells it now."""
    return f"max({pick(series, where)})"


def _before(series: str) -> str:
    return f"max({pick(series, FIRST_NODE)} offset $__rate_interval)"


def _name_value(label: str, expression: str) -> str:
    return f'count_values("{label}", {expression})'


def _by_rank(series: str) -> str:
    return f"max by (rank) ({pick(series, JOB)})"


def _standing() -> list[Any]:
    return [
        figure(
            "Phase",
            "Where the job is in its life, as its status says.",
            "none",
            f"max by (phase) ({pick('finetune_job_info', JOB)})",
            width=3,
            trend=False,
            name="{{phase}}",
            colours=PHASE_COLOURS,
        ),
        figure(
            "Progress",
            "Optimizer steps done, of all.",
            "percentunit",
            share(_of_job("finetune_job_step"), _of_job("finetune_job_total_steps")),
            width=3,
            decimals=0,
        ),
        figure(
            "Goodput",
            "Time of optimizer steps that counted, of the time for which the job held its nodes.",
            "percentunit",
            _of_job("finetune_job_goodput_ratio"),
            width=3,
            decimals=0,
            steps=LOW_IS_BAD,
        ),
        figure(
            "Attempts",
            "Attempts that ended. One is what a job without trouble needs.",
            "none",
            f"sum(max by (result, reason) ({pick('finetune_job_attempts_total', JOB)})) or vector(0)",
            width=3,
            steps=MANY_ATTEMPTS,
        ),
        figure(
            "Lost steps",
            "Optimizer steps that had to be done again.",
            "none",
            _of_job("finetune_job_lost_steps_total"),
            width=3,
            steps=ANY_IS_BAD,
        ),
        figure(
            "Time to first step",
            "From the job's creation to the end of its first optimizer step.",
            "s",
            _of_job("finetune_job_time_to_first_step_seconds"),
            width=3,
            trend=False,
        ),
        figure(
            "Checkpoint age",
            "Since the newest checkpoint was verified: what a crash would cost now.",
            "s",
            f"time() - {_of_job('finetune_job_checkpoint_timestamp_seconds')}",
            width=3,
        ),
        figure(
            "GPU-hours",
            "GPUs x hours for which the job has held them; 0 on CPUs.",
            "none",
            f"{_of_job('finetune_job_gpu_seconds_total')} / 3600",
            width=3,
            decimals=1,
        ),
    ]


def _learning() -> list[Any]:
    return [
        curve(
            "Training loss",
            "Mean over the steps since the last log line, from rank 0.",
            "short",
            # Before the first log line the gauge is exactly 0, which no loss is.
            Query(f"{_of_job('finetune_loss', FIRST_NODE)} != 0", "loss"),
            width=12,
            height=9,
            minimum=None,
        ),
        curve(
            "Metrics of evaluations",
            "Newest figures of each evaluation, by split. eval_metric names are those of the job's report.",
            "short",
            Query(
                f"max by (split, metric) ({pick('finetune_eval_metric', JOB)})",
                "{{split}} {{metric}}",
            ),
            width=12,
            height=9,
            minimum=None,
            steady=True,
            legend=("lastNotNull", "min", "max"),
        ),
        curve(
            "Steps",
            "Optimizer steps done. A step back is an attempt that began from a checkpoint.",
            "none",
            Query(_of_job("finetune_step", FIRST_NODE), "done"),
            Query(f"{_of_job('finetune_total_steps', FIRST_NODE)} > 0", "of"),
            width=12,
            colours={"of": GREY},
        ),
        curve(
            "Learning rate",
            "Of the last logged step.",
            "sci",
            Query(_of_job("finetune_learning_rate", FIRST_NODE), "learning rate"),
            width=12,
        ),
    ]


def _speed() -> list[Any]:
    return [
        curve(
            "Tokens a second",
            "Input tokens of all ranks, over wall time.",
            "short",
            Query(total(rate("finetune_tokens_total", JOB)), "tokens/s"),
        ),
        curve(
            "Samples a second",
            "Rows of all ranks, over wall time.",
            "short",
            Query(total(rate("finetune_samples_total", JOB)), "samples/s"),
        ),
        curve(
            "Model FLOPs utilization",
            "Useful FLOP/s by the GPUs' dense bf16 peak. 0 where the peak is unknown, as on CPUs.",
            "percentunit",
            Query(_of_job("finetune_mfu_ratio", FIRST_NODE), "MFU"),
        ),
        curve(
            "Step time",
            "Seconds an optimizer step, median of the last steps.",
            "s",
            Query(_of_job("finetune_step_seconds", FIRST_NODE), "step"),
        ),
        curve(
            "Waiting for rows",
            "Share of wall time in which steps waited for data. Above some percent: more loader workers, or "
            "shorter preparation in the loop.",
            "percentunit",
            Query(total(rate("finetune_data_wait_seconds_total", JOB)), "waiting"),
        ),
        curve(
            "Stalled by checkpoints",
            "Share of wall time in which steps waited for a snapshot. Uploads in the background are not in it.",
            "percentunit",
            Query(total(rate("finetune_checkpoint_stall_seconds_total", JOB)), "stalled"),
        ),
    ]


def _ranks() -> list[Any]:
    return [
        curve(
            "Own step time by rank",
            "A rank's own seconds a step, without waiting for others: the highest line holds up all.",
            "s",
            Query(_by_rank("finetune_rank_step_seconds"), "rank {{rank}}"),
            width=12,
            legend=("mean", "max"),
        ),
        curve(
            "Peak memory by rank",
            "gpu: allocated by torch; host: resident set of the rank's process.",
            "bytes",
            Query(
                f"max by (rank, memory) ({pick('finetune_rank_memory_bytes', JOB)})",
                "{{memory}} of rank {{rank}}",
            ),
            width=12,
            legend=("lastNotNull", "max"),
        ),
        curve(
            "Steps behind the first rank",
            "How far each rank is behind the furthest. Ranks wait for each other: more than 1 is a rank that hangs.",
            "none",
            Query(
                f"max({pick('finetune_rank_step', JOB)}) - on () group_right () {_by_rank('finetune_rank_step')}",
                "rank {{rank}}",
            ),
            width=12,
            decimals=0,
        ),
        curve(
            "Stragglers",
            "Ranks that hold up the others by their own computing.",
            "none",
            Query(_of_job("finetune_stragglers", FIRST_NODE), "stragglers"),
            width=12,
            decimals=0,
            steady=True,
        ),
    ]


def _time() -> list[Any]:
    return [
        shares(
            "Where the time went",
            "Seconds of all nodes by what their agents did, over the range that is shown.",
            "s",
            Query(total(increase("finetune_phase_seconds_total", JOB), "phase"), "{{phase}}"),
            colours=PHASE_COLOURS,
        ),
        curve(
            "Nodes by what they do",
            "Seconds a second by phase: how many nodes do what.",
            "none",
            Query(total(rate("finetune_phase_seconds_total", JOB), "phase"), "{{phase}}"),
            width=16,
            stacked=True,
            colours=PHASE_COLOURS,
        ),
        bars(
            "Attempts by how they ended",
            "Attempts that ended, with the reason. 0 while none has.",
            "none",
            Query(
                f"max by (result, reason) ({pick('finetune_job_attempts_total', JOB)}) or vector(0)",
                "{{result}} {{reason}}",
            ),
            height=7,
            decimals=0,
            steps=PLAIN,
        ),
        curve(
            "Attempt and lost steps",
            "The attempt that node 0 follows, the restarts within its pod, and the steps that had to be done again.",
            "none",
            Query(_of_job("finetune_attempt", FIRST_NODE), "attempt"),
            Query(_of_job("finetune_restarts_total", FIRST_NODE), "restarts in this pod"),
            Query(_of_job("finetune_job_lost_steps_total"), "lost steps"),
            height=7,
            decimals=0,
            steady=True,
            colours={"lost steps": RED},
        ),
        curve(
            "Goodput over time",
            "job: over all attempts, from the status. node: an agent's own, over its pod's life.",
            "percentunit",
            Query(_of_job("finetune_job_goodput_ratio"), "job"),
            Query(f"max by (node) ({pick('finetune_goodput_ratio', JOB)})", "node {{node}}"),
            height=7,
            maximum=1,
        ),
    ]


def _storage() -> list[Any]:
    return [
        curve(
            "Checkpoint upload",
            "Bytes of checkpoints a second that go to the store, by node.",
            "Bps",
            Query(total(rate("finetune_checkpoint_bytes_total", JOB), "node"), "node {{node}}"),
            height=7,
            stacked=True,
        ),
        curve(
            "Age of the newest checkpoint",
            "Since an agent last saw a checkpoint verified. A line that only rises: checkpoints do not get through.",
            "s",
            Query(f"time() - {_of_job('finetune_checkpoint_timestamp_seconds')}", "age"),
            height=7,
        ),
        curve(
            "Failed storage requests",
            "Requests to object storage that failed after their own retries, over the last interval, by node.",
            "none",
            Query(
                total(f"increase({pick('finetune_storage_errors_total', JOB, '$__rate_interval')})", "node"),
                "node {{node}}",
            ),
            height=7,
            decimals=0,
            bars=True,
        ),
    ]
