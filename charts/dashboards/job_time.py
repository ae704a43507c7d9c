"""One job: attempts, where the time went, and its checkpoints on their way to the store."""

from __future__ import annotations

from charts.dashboards.colours import AGENT_PHASES, PLAIN, RED
from charts.dashboards.panels import Query, Shown, bars, curve, shares
from charts.dashboards.promql import FIRST_NODE, JOB, increase, of_job, or_zero, pick, rate, total


def show_time() -> list[Shown]:
    """Attempts, phases, goodput."""
    return [
        shares(
            "Where the time went",
            "Seconds of all nodes by what their agents did, over the range that is shown.",
            "s",
            Query(total(increase("finetune_phase_seconds_total", JOB), "phase"), "{{phase}}"),
            colours=AGENT_PHASES,
        ),
        curve(
            "Nodes by what they do",
            "Seconds a second by phase: how many nodes do what.",
            "none",
            Query(total(rate("finetune_phase_seconds_total", JOB), "phase"), "{{phase}}"),
            width=16,
            stacked=True,
            colours=AGENT_PHASES,
        ),
        bars(
            "Attempts by how they ended",
            "Attempts that ended, with the reason. 0 while none has.",
            "none",
            Query(
                or_zero(f"max by (result, reason) ({pick('finetune_job_attempts_total', JOB)})"),
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
            Query(of_job("finetune_attempt", FIRST_NODE), "attempt"),
            Query(of_job("finetune_restarts_total", FIRST_NODE), "restarts in this pod"),
            Query(of_job("finetune_job_lost_steps_total"), "lost steps"),
            height=7,
            decimals=0,
            steady=True,
            colours={"lost steps": RED},
        ),
        curve(
            "Goodput over time",
            "job: over all attempts, from the status. node: an agent's own, over its pod's life.",
            "percentunit",
            Query(of_job("finetune_job_goodput_ratio"), "job"),
            Query(f"max by (node) ({pick('finetune_goodput_ratio', JOB)})", "node {{node}}"),
            height=7,
            maximum=1,
        ),
    ]


def show_storage() -> list[Shown]:
    """Uploads, the age of the newest checkpoint, errors."""
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
            Query(f"time() - {of_job('finetune_checkpoint_timestamp_seconds')}", "age"),
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
