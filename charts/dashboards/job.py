"""One job: where it stands. What it learns and how fast is in job_training.py, where its time went in job_time.py."""

from __future__ import annotations

from typing import Any

from charts.dashboards.boards import board, choose, mark
from charts.dashboards.colours import ANY_IS_BAD, GREEN, JOB_PHASES, LOW_IS_BAD, MANY_ATTEMPTS, ORANGE, RED, YELLOW
from charts.dashboards.job_time import show_storage, show_time
from charts.dashboards.job_training import show_learning, show_ranks, show_speed
from charts.dashboards.panels import Shown, figure
from charts.dashboards.promql import FIRST_NODE, JOB, of_job, or_zero, pick, rate, share, total

UID = "finetune-job"


def make() -> dict[str, Any]:
    """The whole dashboard."""
    return board(
        UID,
        "One FineTuneJob: loss and metrics, speed, ranks, attempts, and where the time went.",
        variables=[
            choose("namespace", "Namespace", "finetune_job_info"),
            choose("job", "Job", "finetune_job_info", 'namespace="$namespace"'),
            choose("metric", "Metrics", "finetune_eval_metric", JOB, every="[^/]+"),
        ],
        rows={
            "Where it stands": _standing(),
            "Learning": show_learning(),
            "Speed": show_speed(),
            "Ranks": show_ranks(),
            "Attempts and time": show_time(),
            "Storage": show_storage(),
        },
        marks=[
            mark(
                "Attempts",
                _name_value("attempt", f"({of_job('finetune_attempt', FIRST_NODE)}) > ({_before('finetune_attempt')})"),
                ORANGE,
                "Attempt {{attempt}} began",
            ),
            mark(
                "Verified checkpoints",
                f"{of_job('finetune_job_checkpoint_timestamp_seconds')} * 1000",
                "semi-dark-blue",
                "A checkpoint was verified",
                timed=True,
                shown=False,
            ),
        ],
        since="now-3h",
        refresh="15s",
    )


def _before(series: str) -> str:
    """The highest that it was before: over an hour, since a node that is lost may take its time to come back."""
    return f"max(max_over_time({pick(series, FIRST_NODE, '1h')} offset $__rate_interval))"


def _name_value(label: str, expression: str) -> str:
    return f'count_values("{label}", {expression})'


def _standing() -> list[Shown]:
    gpu_seconds = of_job("finetune_job_gpu_seconds_total")
    left = f"clamp_min({of_job('finetune_total_steps', FIRST_NODE)} - {of_job('finetune_step', FIRST_NODE)}, 0)"
    return [
        figure(
            "Phase",
            "Where the job is in its life, as its status says.",
            "none",
            f"max by (phase) ({pick('finetune_job_info', JOB)})",
            trend=False,
            name="{{phase}}",
            colours=JOB_PHASES,
        ),
        figure(
            "Progress",
            "Optimizer steps done, of all.",
            "percentunit",
            share(of_job("finetune_job_step"), of_job("finetune_job_total_steps")),
            decimals=0,
        ),
        figure(
            "Time left",
            "Steps that are left, at the present pace. Saves and evaluations come on top.",
            "s",
            f"{left} * {of_job('finetune_step_seconds', FIRST_NODE)}",
            decimals=0,
        ),
        figure("Loss", "Training loss at the last log line.", "short", of_job("finetune_loss"), decimals=3),
        figure(
            "Tokens/s",
            "Input tokens of all ranks a second.",
            "short",
            total(rate("finetune_tokens_total", JOB)),
            decimals=0,
        ),
        figure(
            "Goodput",
            "Time of optimizer steps that counted, of the time for which the job held its nodes.",
            "percentunit",
            of_job("finetune_job_goodput_ratio"),
            decimals=0,
            steps=LOW_IS_BAD,
        ),
        figure(
            "Attempts that ended",
            "One is what a job without trouble needs.",
            "none",
            or_zero(f"sum(max by (result, reason) ({pick('finetune_job_attempts_total', JOB)}))"),
            steps=MANY_ATTEMPTS,
        ),
        figure(
            "Lost steps",
            "Optimizer steps that had to be done again.",
            "none",
            of_job("finetune_job_lost_steps_total"),
            steps=ANY_IS_BAD,
        ),
        figure(
            "Time to first step",
            "From the job's creation to the end of its first optimizer step.",
            "s",
            of_job("finetune_job_time_to_first_step_seconds"),
            decimals=0,
        ),
        figure(
            "Checkpoint age",
            "Since the newest checkpoint was verified: what a crash would cost now.",
            "s",
            f"time() - {of_job('finetune_job_checkpoint_timestamp_seconds')}",
            decimals=0,
        ),
        figure(
            "GPU-hours",
            "GPUs x hours for which the job has held them; 0 on CPUs.",
            "none",
            f"{gpu_seconds} / 3600",
            decimals=1,
        ),
        figure(
            "Budget used",
            "Of budget.maxGpuHours; 0 for a job without a budget.",
            "percentunit",
            f"({gpu_seconds} / {of_job('finetune_job_budget_gpu_seconds')}) or {gpu_seconds} * 0",
            decimals=0,
            steps=((None, GREEN), (0.8, YELLOW), (1, RED)),
        ),
    ]
