"""`kubectl logs` of real pods: node 0's reads as the story of the run, the other one says only what was wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.endtoend.chat_run import NAME, ChatRun
from tests.endtoend.ground import Ground

STORY = (
    "AgentStarted", "AttemptStarted", "DataPrepared", "TrainingStarted", "Resumed", "Evaluated", "Step",
    "AttemptStarted", "TrainingStarted", "Resumed", "Step", "Evaluated", "CheckpointSaved", "CheckpointVerified",
    "Exported", "Judged", "Published", "Finished",
)  # fmt: skip
Line = dict[str, Any]


@pytest.fixture(scope="module")
def logs(ground: Ground, chat: ChatRun) -> tuple[list[Line], list[Line]]:
    """Of node 0 and node 1; a line that is no object fails here."""
    first, second = (ground.kubectl("logs", pod, "--tail=-1").split("\n") for pod in chat.trainers)
    return [json.loads(line) for line in first if line], [json.loads(line) for line in second if line]


def test_every_line_says_where_it_came_from(ground: Ground, logs: tuple[list[Line], list[Line]]) -> None:
    for node, lines in enumerate(logs):
        places = {(line["namespace"], line["job"], line["node"]) for line in lines}
        assert places == {(ground.kubectl.namespace, NAME, node)}
        assert all({"time", "severity", "logger", "message", "attempt", "rank"} <= set(line) for line in lines)


def test_node_0_tells_the_story_in_its_order(logs: tuple[list[Line], list[Line]], chat: ChatRun) -> None:
    told = [line for line in logs[0] if "event" in line]
    events = iter([line["event"] for line in told])
    assert all(event in events for event in STORY), [line["event"] for line in told]
    assert (told[-1]["event"], told[-1]["reason"]) == ("Finished", "Published")
    (published,) = [line for line in told if line["event"] == "Published"]
    assert published["uri"] == chat.status["published"]["uri"]
    steps = [line["step"] for line in told if line["event"] == "Step" and line["attempt"] == 2]
    assert steps == list(range(1, chat.status["progress"]["totalSteps"] + 1))


def test_the_killed_worker_is_told_by_its_own_pod_and_nothing_else_is(logs: tuple[list[Line], list[Line]]) -> None:
    failed = [line for line in logs[1] if line.get("event") == "AttemptFailed"]
    assert [(line["attempt"], line["failed_rank"], line["exit_code"]) for line in failed] == [(1, 1, -9)]
    assert [line["message"] for line in logs[1] if line["rank"] is not None and line["severity"] == "info"] == []
