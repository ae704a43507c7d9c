"""The operator itself: does it keep up, does it reach the API server and the agents, which replica leads."""

from __future__ import annotations

from typing import Any

from charts.dashboards.boards import ANY, board, choose
from charts.dashboards.colours import GREEN, ORANGE, RED, YELLOW
from charts.dashboards.panels import Query, Shown, curve, figure
from charts.dashboards.promql import or_zero, pick, quantile, rate, total

UID = "finetune-operator"
OWN = "finetune_event_loop_lag_seconds"
"""A series that every replica of this operator has, and nothing else in a cluster."""
REPLICA = 'job=~"$job", instance=~"$instance"'
RECONCILES = f'controller="finetunejob", {REPLICA}'
QUEUE = f'name="finetunejob", {REPLICA}'
LEASE = f'name="finetune-operator", {REPLICA}'


def make() -> dict[str, Any]:
    """The whole dashboard."""
    return board(
        UID,
        "The operator: reconciliations, queue, API requests, leader, agents, memory. Names are controller-runtime's.",
        variables=[
            choose("job", "Job", OWN, every=ANY),
            choose("instance", "Instance", OWN, 'job=~"$job"', every=ANY),
        ],
        rows={
            "Now": _now(),
            "Reconciling": _reconciling(),
            "API server": _api(),
            "Jobs and agents": _agents(),
            "Process": _process(),
        },
    )


def _ours(expression: str) -> str:
    """Of series that every program exports, those of this operator's replicas."""
    return f"{expression} and on (job, instance) {pick(OWN, REPLICA)}"


def _now() -> list[Shown]:
    errors = rate("controller_runtime_reconcile_total", f'{RECONCILES}, result="error"')
    return [
        figure(
            "Replicas",
            "Replicas of the operator that are scraped.",
            "none",
            f"count({pick(OWN, REPLICA)})",
            steps=((None, RED), (1, GREEN)),
        ),
        figure(
            "Leaders",
            "Replicas that lead. It must be 1; 0 for a moment at a change of leaders.",
            "none",
            total(pick("leader_election_master_status", LEASE)),
            steps=((None, RED), (1, GREEN), (2, RED)),
        ),
        figure(
            "Keys that wait",
            "Depth of the work queue.",
            "none",
            total(pick("workqueue_depth", QUEUE)),
            steps=((None, GREEN), (50, YELLOW), (500, RED)),
        ),
        figure(
            "Status lag, 99 %",
            "From what an agent said to the status that says it. Figures of progress are written every 15 s at most.",
            "s",
            quantile(0.99, "finetune_status_lag_seconds", REPLICA),
            steps=((None, GREEN), (20, YELLOW), (60, RED)),
        ),
        figure(
            "Failed reconciliations",
            "Reconciliations a second that ended in an error and come again.",
            "ops",
            or_zero(total(errors)),
            steps=((None, GREEN), (0.1, YELLOW), (1, RED)),
        ),
        figure(
            "Oldest informer",
            "Longest time since something was heard of the API server, of all replicas and resources.",
            "s",
            f"max({pick('finetune_informer_age_seconds', REPLICA)})",
            steps=((None, GREEN), (120, YELLOW), (600, RED)),
        ),
    ]


def _reconciling() -> list[Shown]:
    seconds = "controller_runtime_reconcile_time_seconds"
    return [
        curve(
            "Reconciliations",
            "A second, by result.",
            "ops",
            Query(total(rate("controller_runtime_reconcile_total", RECONCILES), "result"), "{{result}}"),
            stacked=True,
            colours={"success": GREEN, "requeue_after": "blue", "error": RED},
        ),
        curve(
            "Seconds a reconciliation",
            "Median and 99 % of what a reconciliation took.",
            "s",
            Query(quantile(0.5, seconds, RECONCILES), "median"),
            Query(quantile(0.99, seconds, RECONCILES), "99 %"),
        ),
        curve(
            "Depth of the queue",
            "Depth of the work queue, by replica; only the leader's can grow.",
            "none",
            Query(pick("workqueue_depth", QUEUE), "{{instance}}"),
            decimals=0,
        ),
        curve(
            "Wait in the queue",
            "From a key's coming in to its being taken.",
            "s",
            Query(quantile(0.5, "workqueue_queue_duration_seconds", QUEUE), "median"),
            Query(quantile(0.99, "workqueue_queue_duration_seconds", QUEUE), "99 %"),
        ),
        curve(
            "Work on a key",
            "Seconds that a key took, once taken.",
            "s",
            Query(quantile(0.5, "workqueue_work_duration_seconds", QUEUE), "median"),
            Query(quantile(0.99, "workqueue_work_duration_seconds", QUEUE), "99 %"),
        ),
        curve(
            "Keys that come in",
            "Keys a second that came in, and those that came back after an error.",
            "ops",
            Query(total(rate("workqueue_adds_total", QUEUE)), "came in"),
            Query(or_zero(total(rate("workqueue_retries_total", QUEUE))), "came back"),
            colours={"came back": RED},
        ),
    ]


def _api() -> list[Shown]:
    requests = _ours(rate("rest_client_requests_total", REPLICA))
    return [
        curve(
            "Requests by answer",
            "Requests to the API server a second, by status code. 409: a conflict, tried again; 403: a missing right.",
            "reqps",
            Query(total(requests, "code"), "{{code}}"),
        ),
        curve(
            "Requests by method",
            "Requests to the API server a second, by method.",
            "reqps",
            Query(total(requests, "method"), "{{method}}"),
            stacked=True,
        ),
        curve(
            "Events",
            "Kubernetes events written a second, by reason.",
            "ops",
            Query(or_zero(total(rate("finetune_events_total", REPLICA), "type", "reason")), "{{type}} {{reason}}"),
        ),
        curve(
            "Objects held",
            "Objects in memory, by resource: the largest of all replicas.",
            "none",
            Query(f"max by (resource) ({pick('finetune_informer_objects', REPLICA)})", "{{resource}}"),
            decimals=0,
            legend=("lastNotNull", "max"),
        ),
        curve(
            "Age of informers",
            "Since something was last heard of the API server, by resource: the oldest of all replicas.",
            "s",
            Query(f"max by (resource) ({pick('finetune_informer_age_seconds', REPLICA)})", "{{resource}}"),
            legend=("lastNotNull", "max"),
        ),
        curve(
            "Leader",
            "1 for the replica that leads.",
            "none",
            Query(pick("leader_election_master_status", LEASE), "{{instance}}"),
            maximum=1,
            decimals=0,
            stacked=True,
            steady=True,
        ),
    ]


def _agents() -> list[Shown]:
    lag = "finetune_status_lag_seconds"
    return [
        curve(
            "Status lag",
            "From what an agent said to the status that says it. Figures of progress are written every 15 s at most.",
            "s",
            Query(quantile(0.5, lag, REPLICA), "median"),
            Query(quantile(0.99, lag, REPLICA), "99 %"),
            limit=20,
        ),
        curve(
            "Questions to agents",
            "A second, by result. Silent agents are pods that do not answer.",
            "ops",
            Query(total(rate("finetune_agent_requests_total", REPLICA), "result"), "{{result}}"),
            stacked=True,
            colours={"answered": GREEN, "silent": RED},
        ),
        curve(
            "Agents with news",
            "Agents that have told something that the operator has not answered yet.",
            "none",
            Query(total("finetune_news"), "agents"),
            decimals=0,
            colours={"agents": ORANGE},
        ),
    ]


def _process() -> list[Shown]:
    return [
        curve(
            "Memory",
            "Resident memory, by replica.",
            "bytes",
            Query(_ours(pick("process_resident_memory_bytes", REPLICA)), "{{instance}}"),
        ),
        curve(
            "CPU",
            "Cores used, by replica.",
            "short",
            Query(_ours(rate("process_cpu_seconds_total", REPLICA)), "{{instance}}"),
        ),
        curve(
            "Lag of the event loop",
            "How late the event loop last ran what was due. Above a second, probes and leadership are at risk.",
            "s",
            Query(pick(OWN, REPLICA), "{{instance}}"),
            limit=1,
        ),
    ]
