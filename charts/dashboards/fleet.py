"""What the fleet's GPUs are used for: goodput, GPU-hours and their cost, by namespace and queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from charts.dashboards.boards import ANY, ask, board, choose
from charts.dashboards.colours import ANY_IS_BAD, LOW_IS_BAD, MANY_ATTEMPTS, ORANGE
from charts.dashboards.jobs import JOB_LINK, NAMESPACED, QUEUED
from charts.dashboards.panels import Query, Shown, bars, curve, figure
from charts.dashboards.promql import each_job, increase, or_zero, pick, rate, share, total
from charts.dashboards.tables import Column, listing

UID = "finetune-fleet"
PRICE = "$gpu_hour_price"


def make() -> dict[str, Any]:
    """The whole dashboard."""
    return board(
        UID,
        "All jobs together: goodput, GPU-hours, cost and lost work, by namespace and queue.",
        variables=[
            choose("namespace", "Namespace", "finetune_job_info", every=ANY),
            choose("queue", "Queue", "finetune_job_info", NAMESPACED, every=".*"),
            ask("gpu_hour_price", "Price of a GPU-hour", "2.00", "In your currency; costs are GPU-hours x this price."),
        ],
        rows={
            "In this range": _sums(),
            "Who uses them": [_table("namespace"), _table("queue")],
            "Over time": _over_time(),
            "Jobs": _jobs(),
        },
        since="now-7d",
        refresh="5m",
    )


def _hours(*labels: str) -> str:
    return f"{total(increase('finetune_job_gpu_seconds_total', QUEUED), *labels)} / 3600"


def _goodput(grow: Callable[[str, str], str], *labels: str) -> str:
    """Goodput of a window: what was trained, less what was lost, of what was held.

    Within bounds, since statuses are written now and then: a short window may see a loss before the time it belongs to.
    """
    trained, lost, held = (
        total(grow(f"finetune_job_{name}_seconds_total", QUEUED), *labels) for name in ("training", "lost", "held")
    )
    return f"clamp({share(f'({trained} - {lost})', held)}, 0, 1)"


def _ended(phases: str) -> str:
    info = each_job("finetune_job_info", f'{QUEUED}, phase=~"{phases}"')
    completed = each_job("finetune_job_completed_timestamp_seconds", NAMESPACED)
    return f"count({info} and on (namespace, job) ({completed} > time() - $__range_s))"


def _name_queue(expression: str) -> str:
    """Jobs without a queue have no label; in a table they need a word."""
    return f'label_replace({expression}, "queue", "(none)", "queue", "")'


def _sums() -> list[Shown]:
    hours = _hours()
    return [
        figure(
            "Goodput",
            "Time of optimizer steps that counted, of the time for which jobs held their nodes.",
            "percentunit",
            _goodput(increase),
            decimals=1,
            steps=LOW_IS_BAD,
            trend=False,
        ),
        figure(
            "GPU-hours", "GPUs x hours for which jobs held them; 0 on CPUs.", "short", hours, decimals=1, trend=False
        ),
        figure(
            "Cost",
            "GPU-hours x the price of a GPU-hour, in its currency.",
            "short",
            f"{hours} * {PRICE}",
            decimals=2,
            trend=False,
        ),
        figure(
            "Cost without progress",
            "The part of the cost that goodput leaves: start-up, waiting, saves, evaluation and lost steps.",
            "short",
            f"{hours} * {PRICE} * (1 - {_goodput(increase)})",
            decimals=2,
            steps=((None, ORANGE),),
            trend=False,
        ),
        figure(
            "Lost steps",
            "Optimizer steps that had to be done again.",
            "none",
            total(increase("finetune_job_lost_steps_total", QUEUED)),
            decimals=0,
            steps=ANY_IS_BAD,
            trend=False,
        ),
        figure(
            "Success rate",
            "Of the jobs that ended in this range and still exist, those that succeeded.",
            "percentunit",
            f"({or_zero(_ended('Succeeded'))}) / {_ended('Succeeded|Failed')}",
            decimals=0,
            steps=LOW_IS_BAD,
            trend=False,
        ),
    ]


def _table(label: str) -> Shown:
    name = _name_queue if label == "queue" else str
    title = label.capitalize()
    lost = total(increase("finetune_job_lost_steps_total", QUEUED), label)
    jobs = total(f"max by (namespace, queue, phase) (finetune_jobs{{{QUEUED}}})", label)
    return listing(
        f"By {label}",
        f"GPU-hours, cost and goodput of each {label} in this range, and its jobs that exist now.",
        Column(title, name(_hours(label)), label),
        Column("GPU-hours", name(_hours(label)), unit="short", decimals=1, width=110),
        Column("Cost", name(f"{_hours(label)} * {PRICE}"), unit="short", decimals=2, width=110),
        Column("Goodput", name(_goodput(increase, label)), unit="percentunit", decimals=0, width=100, steps=LOW_IS_BAD),
        Column("Lost steps", name(lost), unit="none", decimals=0, width=110, steps=ANY_IS_BAD),
        Column("Jobs", name(jobs), unit="none", width=80),
        width=12,
        height=9,
        highest_first="GPU-hours",
    )


def _over_time() -> list[Shown]:
    held = rate("finetune_job_gpu_seconds_total", QUEUED)
    return [
        curve(
            "GPUs held by namespace",
            "GPU-seconds a second: how many GPUs jobs hold.",
            "none",
            Query(total(held, "namespace"), "{{namespace}}"),
            width=12,
            stacked=True,
            legend=("mean", "max"),
        ),
        curve(
            "GPUs held by queue",
            "GPU-seconds a second: how many GPUs the jobs of each queue hold.",
            "none",
            Query(_name_queue(total(held, "queue")), "{{queue}}"),
            width=12,
            stacked=True,
            legend=("mean", "max"),
        ),
        curve(
            "Goodput by namespace",
            "Time of steps that counted, of the time for which nodes were held.",
            "percentunit",
            Query(_goodput(rate, "namespace"), "{{namespace}}"),
            width=12,
            maximum=1,
        ),
        curve(
            "Lost steps by namespace",
            "Optimizer steps a second that had to be done again.",
            "ops",
            Query(total(rate("finetune_job_lost_steps_total", QUEUED), "namespace"), "{{namespace}}"),
            width=12,
        ),
        curve(
            "At work by queue",
            "FineTuneJobs that hold nodes, by queue.",
            "none",
            Query(_name_queue(_count_jobs("Starting|Running|Evaluating|Publishing|Suspending")), "{{queue}}"),
            width=12,
            decimals=0,
            stacked=True,
            steady=True,
        ),
        curve(
            "Waiting by queue",
            "FineTuneJobs that wait for their queue, for data or for nodes, by queue.",
            "none",
            Query(_name_queue(_count_jobs("Pending|Preparing|Queued")), "{{queue}}"),
            width=12,
            decimals=0,
            stacked=True,
            steady=True,
        ),
    ]


def _count_jobs(phases: str) -> str:
    jobs = pick("finetune_jobs", f'{QUEUED}, phase=~"{phases}"')
    return total(f"max by (namespace, queue, phase) ({jobs})", "queue")


def _jobs() -> list[Shown]:
    goodput = each_job("finetune_job_goodput_ratio", QUEUED)
    held = each_job("finetune_job_held_seconds_total", QUEUED)
    gpu_seconds = each_job("finetune_job_gpu_seconds_total", QUEUED)
    attempts = total(each_job("finetune_job_attempts_total", NAMESPACED, "result", "reason"), "namespace", "job")
    these = f"and on (namespace, job) topk(20, {held})"
    return [
        listing(
            "Longest held",
            "The twenty jobs that held their nodes for longest. Click a name for the job's own dashboard.",
            Column("Job", f"topk(20, {held})", "job", link=JOB_LINK),
            Column("Namespace", label="namespace"),
            Column("Held", f"{held} {these}", unit="s", decimals=0, width=110),
            Column("GPU-hours", f"{gpu_seconds} / 3600 {these}", unit="none", decimals=1, width=110),
            Column("Goodput", f"{goodput} {these}", unit="percentunit", decimals=0, width=100, steps=LOW_IS_BAD),
            Column("Attempts", f"{attempts} {these}", unit="none", width=100, steps=MANY_ATTEMPTS),
            width=16,
            height=10,
            highest_first="Held",
        ),
        bars(
            "Lowest goodput",
            "The ten jobs with the lowest goodput.",
            "percentunit",
            Query(f"bottomk(10, {goodput})", "{{namespace}}/{{job}}"),
            height=10,
            decimals=0,
            maximum=1,
            steps=LOW_IS_BAD,
        ),
    ]
