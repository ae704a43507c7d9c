"""What the dashboards say of known series: promtool plays them, and asks what the panels ask."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, get_args

import pytest
import yaml

from finetune_contract.status import Phase
from tests.monitoring.queries import list_queries
from tests.monitoring.rules import METRICS_PAGE, promtool

VALUES: Final = {
    "namespace": "team-a",
    "job": "spam",
    "queue": ".*",
    "instance": ".+",
    "gpu_hour_price": "2.00",
    "metric": "[^/]+",
    "__rate_interval": "5m",
    "__range": "1h",
    "__range_s": "3600",
}
SCRAPE: Final = "30s"
END: Final = "1h"
"""Of the range that is shown; 120 scrapes after the beginning."""

SPAM: Final = 'namespace="team-a",job="spam"'
HAM: Final = 'namespace="team-a",job="ham"'
FIRST, SECOND = 'pod="operator-1"', 'pod="operator-2"'
FIRST_LEADS: Final = "0+{step}x59 stale"
"""The first half hour: a sum that grows by `step` a scrape, told by the replica that leads."""
SECOND_LEADS: Final = "_x60 {begin}+{step}x60"


COMMON: Final = {
    "From trainer pods": ("namespace", "job", "node"),
    "From the operator, about jobs": ("namespace", "job"),
    "From the operator, about itself": ("namespace", "job", "instance"),
}
"""Labels of all series of a section of docs/reference/metrics.md; where a replica tells of itself, the scrape's."""
MEMBERS: Final = {
    "namespace": "team-a",
    "job": "spam",
    "node": "0",
    "rank": "0",
    "memory": "host",
    "split": "validation",
    "queue": "gpu",
    "task": "CausalLM",
    "result": "Failed",
    "reason": "Code",
    "controller": "finetunejob",
    "name": "finetunejob",
    "instance": "10.0.0.1:8080",
    "code": "200",
    "method": "GET",
    "type": "Normal",
    "resource": "pods",
}
SEVERAL: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "finetune_jobs": ("phase", get_args(Phase)),
    "finetune_eval_metric": ("metric", ("loss", "f1")),
    "leader_election_master_status": ("name", ("finetune-operator",)),
}
"""Series of which there is more than one wherever there is one, or which have a name of their own."""


def grow(series: str, labels: str, step: float) -> list[dict[str, str]]:
    """A sum in a job's status that grows all the time, while the leader changes in the middle."""
    begin = step * 60
    return [
        {"series": f"{series}{{{labels},{FIRST}}}", "values": FIRST_LEADS.format(step=step)},
        {"series": f"{series}{{{labels},{SECOND}}}", "values": SECOND_LEADS.format(begin=begin, step=step)},
    ]


def hold(series: str, labels: str, value: float | str, pod: str = SECOND) -> list[dict[str, str]]:
    """A figure that stays."""
    return [{"series": f"{series}{{{labels},{pod}}}", "values": f"{value}x120"}]


def judge(
    folder: Path, dashboard: str, panel: str, *series: list[dict[str, str]], answer: dict[str, float], number: int = 0
) -> str:
    """What promtool has against a panel's answer at the end of the range; empty when it is this one."""
    values = VALUES | ({"job": ".+"} if dashboard == "finetune-operator" else {})
    found = [each for each in list_queries(values.__getitem__) if (each.dashboard, each.panel) == (dashboard, panel)]
    expected = [{"labels": labels, "value": value} for labels, value in answer.items()]
    test = {
        "interval": SCRAPE,
        "input_series": [one for some in series for one in some],
        "promql_expr_test": [{"expr": found[number].expression, "eval_time": END, "exp_samples": expected}],
    }
    path = folder / "figures.yaml"
    path.write_text(yaml.safe_dump({"evaluation_interval": SCRAPE, "tests": [test]}, sort_keys=False))
    done = promtool("test", "rules", path)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_gpu_hours_of_the_fleet_are_whole_over_a_change_of_leaders(tmp_path: Path) -> None:
    eight, two = (
        grow("finetune_job_gpu_seconds_total", f'{labels},queue="gpu"', gpus * 30)
        for labels, gpus in ((SPAM, 8), (HAM, 2))
    )
    assert judge(tmp_path, "finetune-fleet", "GPU-hours", eight, two, answer={"{}": 10}) == ""
    assert judge(tmp_path, "finetune-fleet", "Cost", eight, two, answer={"{}": 20}) == ""


def test_gpu_hours_by_queue_name_the_jobs_without_one(tmp_path: Path) -> None:
    queued = grow("finetune_job_gpu_seconds_total", f'{SPAM},queue="gpu"', 240)
    free = grow("finetune_job_gpu_seconds_total", f'{HAM},queue=""', 60)
    answer = {'{queue="gpu"}': 8, '{queue="(none)"}': 2}
    assert judge(tmp_path, "finetune-fleet", "By queue", queued, free, answer=answer) == ""


def test_goodput_of_the_fleet_weighs_jobs_by_the_time_that_they_held_and_takes_lost_steps_off(tmp_path: Path) -> None:
    series = [
        *(grow("finetune_job_held_seconds_total", f'{job},queue=""', 30) for job in (SPAM, HAM)),
        grow("finetune_job_training_seconds_total", f'{SPAM},queue=""', 27),
        grow("finetune_job_lost_seconds_total", f'{SPAM},queue=""', 3),
        grow("finetune_job_training_seconds_total", f'{HAM},queue=""', 12),
        grow("finetune_job_lost_seconds_total", f'{HAM},queue=""', 0),
    ]
    assert judge(tmp_path, "finetune-fleet", "Goodput", *series, answer={"{}": 0.6}) == ""


def test_success_rate_is_of_the_jobs_that_ended_in_the_range(tmp_path: Path) -> None:
    def end(job: str, phase: str, at: int) -> list[dict[str, str]]:
        labels = f'namespace="team-a",job="{job}"'
        return [
            *hold("finetune_job_info", f'{labels},queue="",phase="{phase}"', 1),
            *hold("finetune_job_completed_timestamp_seconds", labels, at),
        ]

    good, bad, long_ago = end("a", "Succeeded", 3000), end("b", "Failed", 3100), end("c", "Failed", -4000)
    running = hold("finetune_job_info", 'namespace="team-a",job="d",queue="",phase="Running"', 1)
    rate = "Success rate"
    assert judge(tmp_path, "finetune-fleet", rate, good, bad, long_ago, running, answer={"{}": 0.5}) == ""
    assert judge(tmp_path, "finetune-fleet", rate, bad, running, answer={"{}": 0}) == ""
    assert judge(tmp_path, "finetune-fleet", rate, running, answer={}) == ""


def test_jobs_are_counted_once_while_two_leaders_figures_meet(tmp_path: Path) -> None:
    labels = 'namespace="team-a",queue="",phase="Running"'
    series = [hold("finetune_jobs", labels, 3, FIRST), hold("finetune_jobs", labels, 3, SECOND)]
    assert judge(tmp_path, "finetune-jobs", "At work", *series, answer={"{}": 3}) == ""
    assert judge(tmp_path, "finetune-jobs", "Failed", *series, answer={"{}": 0}) == ""


def test_a_failed_attempt_is_seen_though_its_series_begins_at_one(tmp_path: Path) -> None:
    failed = hold("finetune_job_attempts_total", f'{SPAM},result="Failed",reason="Code"', 1)
    finished = hold("finetune_job_attempts_total", f'{SPAM},result="Finished",reason=""', 1)
    panel = "Failed attempts by reason"
    answer = {'{reason="Code"}': 1}
    assert judge(tmp_path, "finetune-jobs", panel, failed, finished, answer=answer) == ""
    assert judge(tmp_path, "finetune-jobs", panel, finished, answer={"{}": 0}) == ""


def test_budget_used_is_nothing_for_a_job_without_a_budget(tmp_path: Path) -> None:
    series = [
        hold("finetune_job_gpu_seconds_total", f'{SPAM},queue=""', 1800),
        hold("finetune_job_budget_gpu_seconds", SPAM, 3600),
        hold("finetune_job_gpu_seconds_total", f'{HAM},queue=""', 900),
    ]
    answer = {f"{{{SPAM}}}": 0.5, f"{{{HAM}}}": 0}
    assert judge(tmp_path, "finetune-jobs", "FineTuneJobs", *series, answer=answer, number=10) == ""


def test_a_running_job_without_figures_stands_out_and_a_finished_one_does_not(tmp_path: Path) -> None:
    moved = [hold("finetune_job_progress_timestamp_seconds", job, 3000) for job in (SPAM, HAM)]
    over = hold("finetune_job_info", f'{HAM},queue="",phase="Succeeded"', 1)
    running = hold("finetune_job_info", f'{SPAM},queue="",phase="Running"', 1)
    panel = "Longest without figures"
    assert judge(tmp_path, "finetune-jobs", panel, *moved, over, running, answer={"{}": 600}) == ""
    assert judge(tmp_path, "finetune-jobs", panel, *moved, over, answer={"{}": 0}) == ""


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ("1x115 2x5", {'{attempt="2"}': 1}),
        ("1x120", {}),
        ("1x100 stale", {}),
    ],
    ids=["begun", "going on", "over"],
)
def test_an_attempt_is_marked_when_it_begins(tmp_path: Path, values: str, answer: dict[str, float]) -> None:
    series: list[Any] = [{"series": f'finetune_attempt{{{SPAM},node="0",pod="spam-0"}}', "values": values}]
    assert judge(tmp_path, "finetune-job", "Attempts", series, answer=answer) == ""


def test_an_attempt_in_a_new_pod_is_marked(tmp_path: Path) -> None:
    series: list[Any] = [
        {"series": f'finetune_attempt{{{SPAM},node="0",pod="spam-0"}}', "values": "1x60 stale"},
        {"series": f'finetune_attempt{{{SPAM},node="0",pod="spam-0-1"}}', "values": "_x116 2x4"},
    ]
    assert judge(tmp_path, "finetune-job", "Attempts", series, answer={'{attempt="2"}': 1}) == ""


def test_a_rank_that_hangs_is_behind_the_others(tmp_path: Path) -> None:
    series = [
        hold("finetune_rank_step", f'{SPAM},node="{rank}",rank="{rank}"', step) for rank, step in enumerate((20, 17))
    ]
    answer = {'{rank="0"}': 0, '{rank="1"}': 3}
    assert judge(tmp_path, "finetune-job", "Steps behind the first rank", *series, answer=answer) == ""


def test_processes_of_other_programs_are_left_out(tmp_path: Path) -> None:
    ours, other = 'job="finetune-operator-metrics",instance="10.0.0.1:8080"', 'job="node",instance="10.0.0.2:9100"'
    series = [
        hold("finetune_event_loop_lag_seconds", ours, 0),
        *(hold("process_resident_memory_bytes", labels, 1e8) for labels in (ours, other)),
    ]
    answer = {f"process_resident_memory_bytes{{{ours},{SECOND}}}": 1e8}
    assert judge(tmp_path, "finetune-operator", "Memory", *series, answer=answer) == ""


def test_no_panel_is_empty_where_every_promised_series_is_there(tmp_path: Path) -> None:
    asked = [
        query
        for dashboard, job in (("finetune-operator", ".+"), ("", "spam"))
        for query in list_queries((VALUES | {"job": job}).__getitem__)
        if not query.annotation and (query.dashboard == "finetune-operator") == bool(dashboard)
    ]
    looks = [
        {
            "expr": f"count({query.expression}) > bool 0",
            "eval_time": END,
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for query in asked
    ]
    test = {"interval": SCRAPE, "input_series": list(list_all_series()), "promql_expr_test": looks}
    path = tmp_path / "all.yaml"
    path.write_text(yaml.safe_dump({"evaluation_interval": SCRAPE, "tests": [test]}, sort_keys=False))
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def list_all_series() -> Iterator[dict[str, str]]:
    """One series for each that docs/reference/metrics.md promises, with its labels."""
    section = ""
    for line in METRICS_PAGE.read_text(encoding="utf-8").splitlines():
        section = line.removeprefix("## ") if line.startswith("## ") else section
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 3 and cells[1].startswith("`"):
            names = re.findall(r"`([a-z_]+)(?:\{([a-z_,]+)\})?`", cells[1])
            labels = dict.fromkeys((*COMMON[section], *filter(None, names[0][1].split(","))))
            for name, _ in names:
                yield from play(name, cells[2], labels)


def play(name: str, kind: str, labels: Iterable[str]) -> Iterator[dict[str, str]]:
    label, members = SEVERAL.get(name, ("phase", ("Succeeded",)))
    for member in members:
        values = MEMBERS | {label: member}
        written = ",".join(f'{each}="{values[each]}"' for each in labels)
        if "histogram" in kind:
            for bound, step in (("1", 1), ("+Inf", 2)):
                yield {"series": f'{name}_bucket{{{written},le="{bound}"}}', "values": f"0+{step}x120"}
        else:
            grows = "1+1x120" if name.endswith("_total") else "3000x120"
            yield {"series": f"{name}{{{written}}}", "values": grows}
