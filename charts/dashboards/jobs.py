"""Overview of all jobs: what runs, what waits, what failed and why."""

from __future__ import annotations

from typing import Any

from charts.dashboards.boards import ANY, board, choose
from charts.dashboards.colours import (
    ANY_IS_BAD,
    BLUE,
    GREEN,
    GREY,
    JOB_PHASES,
    LOW_IS_BAD,
    MANY_ATTEMPTS,
    ORANGE,
    PLAIN,
    RED,
    YELLOW,
)
from charts.dashboards.panels import Query, Shown, bars, curve, figure
from charts.dashboards.promql import each_job, or_zero, rate, share, total
from charts.dashboards.tables import Column, listing

UID = "finetune-jobs"
QUEUED = 'namespace=~"$namespace", queue=~"$queue"'
NAMESPACED = 'namespace=~"$namespace"'
JOB_LINK = (
    "/d/finetune-job?${datasource:queryparam}"
    "&var-namespace=${__data.fields.Namespace}&var-job=${__data.fields.Job}&${__url_time_range}"
)


def make() -> dict[str, Any]:
    """The whole dashboard."""
    return board(
        UID,
        "All FineTuneJobs: by phase, with progress, goodput and the reasons of failures.",
        variables=[
            choose("namespace", "Namespace", "finetune_job_info", every=ANY),
            choose("queue", "Queue", "finetune_job_info", NAMESPACED, every=".*"),
        ],
        rows={
            "Now": _now(),
            "Jobs": [_table()],
            "What needs a look": _trouble(),
            "Over time": _over_time(),
        },
    )


def _count(phases: str) -> str:
    return or_zero(total(_by_queue(f'{QUEUED}, phase=~"{phases}"')))


def _by_queue(where: str) -> str:
    return f"max by (namespace, queue, phase) (finetune_jobs{{{where}}})"


def _now() -> list[Shown]:
    return [
        figure("All jobs", "FineTuneJobs that exist.", "none", _count(ANY)),
        figure(
            "At work",
            "Jobs that train, evaluate or publish.",
            "none",
            _count("Running|Evaluating|Publishing"),
            steps=((None, GREEN),),
        ),
        figure(
            "Waiting",
            "Jobs that wait for a queue, for nodes, for data or for their first step.",
            "none",
            _count("Pending|Queued|Preparing|Starting"),
            steps=((None, GREY), (1, BLUE)),
        ),
        figure(
            "Suspended",
            "Jobs that were stopped with a checkpoint and hold no node.",
            "none",
            _count("Suspending|Suspended"),
            steps=((None, GREY), (1, ORANGE)),
        ),
        figure(
            "Succeeded", "Jobs that published a model.", "none", _count("Succeeded"), steps=((None, GREY), (1, GREEN))
        ),
        figure(
            "Failed", "Jobs that are over without a model.", "none", _count("Failed"), steps=((None, GREY), (1, RED))
        ),
    ]


def _table() -> Shown:
    gpu_seconds = each_job("finetune_job_gpu_seconds_total", QUEUED)
    return listing(
        "FineTuneJobs",
        "One line a job, as its status says. First step: how long it took to get there. Moved ago: since its figures "
        "last moved. Checkpoint: the age of the newest verified one. Click a name for the job's own dashboard.",
        Column(
            "Job",
            each_job("finetune_job_info", QUEUED, "phase", "reason", "queue", "task", "method"),
            "job",
            width=190,
            link=JOB_LINK,
        ),
        Column("Namespace", label="namespace", width=110),
        Column("Phase", label="phase", width=100, colours=JOB_PHASES),
        Column("Reason", label="reason", width=140),
        Column("Queue", label="queue", width=90),
        Column("Task", label="task", width=110),
        Column("Method", label="method", width=70),
        Column(
            "Progress",
            share(each_job("finetune_job_step", NAMESPACED), each_job("finetune_job_total_steps", NAMESPACED)),
            unit="percentunit",
            decimals=0,
            width=120,
            bar=True,
            steps=PLAIN,
        ),
        Column("Step", each_job("finetune_job_step", NAMESPACED), unit="none", width=70),
        Column(
            "Goodput",
            each_job("finetune_job_goodput_ratio", QUEUED),
            unit="percentunit",
            decimals=0,
            width=90,
            steps=LOW_IS_BAD,
        ),
        Column(
            "Attempts",
            total(each_job("finetune_job_attempts_total", NAMESPACED, "result", "reason"), "namespace", "job"),
            unit="none",
            width=90,
            steps=MANY_ATTEMPTS,
        ),
        Column(
            "Lost steps", each_job("finetune_job_lost_steps_total", QUEUED), unit="none", width=100, steps=ANY_IS_BAD
        ),
        Column(
            "First step",
            each_job("finetune_job_time_to_first_step_seconds", NAMESPACED),
            unit="s",
            decimals=0,
            width=100,
        ),
        Column(
            "Moved ago",
            f"time() - {each_job('finetune_job_progress_timestamp_seconds', NAMESPACED)}",
            unit="s",
            decimals=0,
            width=100,
        ),
        Column(
            "Checkpoint",
            f"time() - {each_job('finetune_job_checkpoint_timestamp_seconds', NAMESPACED)}",
            unit="s",
            decimals=0,
            width=110,
        ),
        Column("GPU-hours", f"{gpu_seconds} / 3600", unit="none", decimals=1, width=100),
        Column(
            "Budget used",
            f"({gpu_seconds} / {each_job('finetune_job_budget_gpu_seconds', NAMESPACED)}) or {gpu_seconds} * 0",
            unit="percentunit",
            decimals=0,
            width=110,
            steps=((None, GREEN), (0.8, YELLOW), (1, RED)),
            texts={"0": "-"},
        ),
        height=13,
    )


def _over_time() -> list[Shown]:
    waits = each_job("finetune_job_time_to_first_step_seconds", NAMESPACED)
    return [
        curve(
            "Jobs by phase",
            "How many FineTuneJobs are in each phase.",
            "none",
            Query(total(_by_queue(QUEUED), "phase"), "{{phase}}"),
            width=12,
            decimals=0,
            stacked=True,
            steady=True,
            colours=JOB_PHASES,
        ),
        curve(
            "Tokens a second",
            "Input tokens that trainers take in, by namespace.",
            "short",
            Query(total(rate("finetune_tokens_total", NAMESPACED), "namespace"), "{{namespace}}"),
            width=12,
        ),
        curve(
            "Time to first step",
            "From a job's creation to the end of its first optimizer step, over the jobs that exist.",
            "s",
            Query(f"quantile(0.5, {waits})", "median"),
            Query(f"quantile(0.9, {waits})", "90 %"),
            Query(f"max({waits})", "longest"),
            width=12,
        ),
        curve(
            "Attempts that ended",
            "Attempts of the jobs that exist, by how they ended: a line that rises means restarts.",
            "none",
            Query(
                total(each_job("finetune_job_attempts_total", NAMESPACED, "result", "reason"), "result"), "{{result}}"
            ),
            width=12,
            decimals=0,
            steady=True,
            colours={"Finished": "dark-green", "Stopped": ORANGE, "Failed": RED},
        ),
    ]


def _trouble() -> list[Shown]:
    attempts = each_job("finetune_job_attempts_total", NAMESPACED, "result", "reason")
    failed = each_job("finetune_job_attempts_total", f'{NAMESPACED}, result="Failed"', "result", "reason")
    running = f'and on (namespace, job) finetune_job_info{{{QUEUED}, phase="Running"}}'
    return [
        bars(
            "Failed attempts by reason",
            "Attempts of the jobs that exist that failed, by the class of the failure; 0 when none has.",
            "none",
            Query(or_zero(total(failed, "reason")), "{{reason}}"),
            decimals=0,
            steps=((None, RED),),
        ),
        bars(
            "Jobs with most attempts",
            "The ten jobs that began most often. One attempt is what a job without trouble needs.",
            "none",
            Query(f"topk(10, {total(attempts, 'namespace', 'job')})", "{{namespace}}/{{job}}"),
            decimals=0,
            steps=MANY_ATTEMPTS,
        ),
        figure(
            "Longest without figures",
            "Of the running jobs, the longest time since the figures last moved; 0 when none runs.",
            "s",
            or_zero(f"max((time() - finetune_job_progress_timestamp_seconds{{{NAMESPACED}}}) {running})"),
            height=8,
            decimals=0,
            steps=((None, GREEN), (300, YELLOW), (900, RED)),
        ),
        figure(
            "Longest without a checkpoint",
            "Of the running jobs that have saved one, the longest time since one was verified; 0 when none runs.",
            "s",
            or_zero(f"max((time() - finetune_job_checkpoint_timestamp_seconds{{{NAMESPACED}}}) {running})"),
            height=8,
            decimals=0,
            steps=((None, GREEN), (3600, YELLOW), (3 * 3600, RED)),
        ),
    ]
