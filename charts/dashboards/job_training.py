"""One job: what it learns, how fast, and on which ranks."""

from __future__ import annotations

from typing import Final

from charts.dashboards.colours import GREY
from charts.dashboards.panels import Query, Shown, curve
from charts.dashboards.promql import FIRST_NODE, JOB, by_rank, of_job, pick, rate, total

EVALUATION_LOSS: Final = f'{JOB}, metric="loss"'
CHOSEN_METRICS: Final = f'{JOB}, metric=~"$metric", metric!="loss"'


def show_learning() -> list[Shown]:
    """Loss, metrics, steps, learning rate."""
    return [
        curve(
            "Training and evaluation loss",
            "Of training: mean over the steps since the last log line. Of a split: the newest evaluation's.",
            "short",
            Query(of_job("finetune_loss"), "training"),
            Query(f"max by (split) ({pick('finetune_eval_metric', EVALUATION_LOSS)})", "{{split}}"),
            width=12,
            height=9,
            minimum=None,
            legend=("lastNotNull", "min"),
        ),
        curve(
            "Metrics of evaluations",
            "Newest figures of each evaluation, by split. Those of single classes: choose them above.",
            "short",
            Query(
                f"max by (split, metric) ({pick('finetune_eval_metric', CHOSEN_METRICS)})",
                "{{split}} {{metric}}",
            ),
            width=12,
            height=9,
            minimum=None,
            legend=("lastNotNull", "min", "max"),
            right_axis=".*perplexity.*",
        ),
        curve(
            "Steps",
            "Optimizer steps done. A step back is an attempt that began from a checkpoint.",
            "none",
            Query(of_job("finetune_step", FIRST_NODE), "done"),
            Query(f"{of_job('finetune_total_steps', FIRST_NODE)} > 0", "of"),
            width=12,
            colours={"of": GREY},
        ),
        curve(
            "Learning rate",
            "Of the last logged step.",
            "sci",
            Query(of_job("finetune_learning_rate", FIRST_NODE), "learning rate"),
            width=12,
        ),
    ]


def show_speed() -> list[Shown]:
    """Throughput, and what holds it up."""
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
            Query(of_job("finetune_mfu_ratio", FIRST_NODE), "MFU"),
        ),
        curve(
            "Step time",
            "Seconds an optimizer step, median of the last steps.",
            "s",
            Query(of_job("finetune_step_seconds", FIRST_NODE), "step"),
        ),
        curve(
            "Waiting for rows",
            "Share of wall time in which steps waited for data. Above a few percent the GPUs idle for it.",
            "percentunit",
            Query(total(rate("finetune_data_wait_seconds_total", JOB)), "waiting"),
        ),
        curve(
            "Stalled by checkpoints",
            "Share of wall time in which steps waited for a snapshot to be taken. Uploads are not in it.",
            "percentunit",
            Query(total(rate("finetune_checkpoint_stall_seconds_total", JOB)), "stalled"),
        ),
    ]


def show_ranks() -> list[Shown]:
    """Each rank beside the others."""
    return [
        curve(
            "Own step time by rank",
            "A rank's own seconds a step, without waiting for others: the highest line holds up all.",
            "s",
            Query(by_rank("finetune_rank_step_seconds"), "rank {{rank}}"),
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
                f"max({pick('finetune_rank_step', JOB)}) - on () group_right () {by_rank('finetune_rank_step')}",
                "rank {{rank}}",
            ),
            width=12,
            decimals=0,
        ),
        curve(
            "Stragglers",
            "Ranks that hold up the others by their own computing.",
            "none",
            Query(of_job("finetune_stragglers", FIRST_NODE), "stragglers"),
            width=12,
            decimals=0,
            steady=True,
        ),
    ]
