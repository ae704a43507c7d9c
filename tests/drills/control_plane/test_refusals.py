"""What a cluster refuses for a while, and a name that is used again: said truly, and gone on from by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from finetune_contract import names
from tests.drills.control_plane.journey import NODES, SPEC, finish
from tests.drills.control_plane.play import MERGE
from tests.drills.control_plane.stage import Stage
from tests.drills.table import Drill, rehearse

QUOTA = "resourcequotas/pods"

UNSCHEDULABLE = {
    "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes are available"}
    ]
}
IMAGE_MISSING = {
    "containerStatuses": [
        {
            "name": names.CONTAINER,
            "image": "trainer",
            "imageID": "",
            "ready": False,
            "restartCount": 0,
            "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}},
        }
    ]
}


def test_name_that_is_used_again_at_once_does_not_meet_its_past(make_stage: Callable[[str], Stage]) -> None:
    stage = make_stage("again")
    play = stage.play
    drill = Drill("applied again at once", "job deleted and applied; old pods terminate", "the new job meets new pods")
    with rehearse(drill) as sighting:
        play.script, play.keeps_terminating = {1: "trains"}, True
        play.apply(SPEC)
        stage.live(lambda _: play.count_members(1) == NODES, "the first job trains")
        old = {pod["metadata"]["name"]: play.agents[pod["metadata"]["name"]] for pod in play.list_pods()}
        play.delete_job()
        for name in old:  # the garbage collector's part
            play.request("DELETE", f"pods/{name}?gracePeriodSeconds=120")
        begun = time.monotonic()
        play.script = {1: "finishes"}
        play.told.clear()
        play.apply(SPEC)
        stage.live(lambda status: status.get("phase") == "Succeeded", "the second job has succeeded")
        sighting.recovery_seconds = time.monotonic() - begun
        (members,) = play.told[1]
        # Not simply what is not old: told of the pods before the job, the operator may have replaced one of the former
        # job's, which nobody collects here.
        uid = play.read_job()["metadata"]["uid"]
        new = {agent.ip for agent in play.agents.values() if agent.progress.job_uid == uid}
        assert all(ip in members for ip in new)
        assert not any(agent.ip in members for agent in old.values())
        assert len(new) == NODES
        sighting.seen = "two new pods, attempt 1 of their own"


@pytest.mark.drill
def test_quota_that_is_raised_lets_the_job_go_on(make_stage: Callable[[str], Stage]) -> None:
    stage = make_stage("quota")
    play = stage.play
    expected = "one pod, the refusal in its condition; Succeeded once raised"
    with rehearse(Drill("quota refused, then raised", "ResourceQuota of one pod", expected)) as sighting:
        set_quota(stage, 1)
        play.apply(SPEC)
        stage.live(lambda status: "exceeded quota" in read_waiting(status), "the refusal is said")
        assert len(play.list_pods()) == 1
        begun = time.monotonic()
        set_quota(stage, 2)
        ending = finish(stage, 90)
        sighting.recovery_seconds = time.monotonic() - begun
        assert ending.pods == ("0-0", "1-0")
        sighting.seen = "refusal said, then Succeeded"


@pytest.mark.drill
@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("unschedulable", UNSCHEDULABLE, "0/2 nodes are available"),
        ("image missing", IMAGE_MISSING, "check spec.pod.image"),
    ],
)
def test_pod_that_waits_says_why_and_goes_on(
    make_stage: Callable[[str], Stage], name: str, status: dict[str, Any], said: str
) -> None:
    stage = make_stage("waits")
    play = stage.play
    with rehearse(Drill(f"pod {name}, then mended", name, "said in its condition; Succeeded once mended")) as sighting:
        play.holds_back = status
        play.apply(SPEC)
        stage.live(lambda seen: said in read_waiting(seen), "the reason is said", seconds=90)
        begun = time.monotonic()
        play.holds_back = None
        assert finish(stage).most_pods == NODES
        sighting.recovery_seconds = time.monotonic() - begun
        sighting.seen = "reason said, then Succeeded"


def set_quota(stage: Stage, pods: int) -> None:
    """Set a quota, and do the quota controller's part of it."""
    used = len(stage.play.list_pods())
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "pods"}}
    stage.play.request("POST", "resourcequotas", quota | {"spec": {"hard": {"pods": str(pods)}}})
    stage.play.request("PATCH", QUOTA, {"spec": {"hard": {"pods": str(pods)}}}, MERGE)
    status = {"hard": {"pods": str(pods)}, "used": {"pods": str(used)}}
    answer = stage.play.request("PATCH", f"{QUOTA}/status", {"status": status}, MERGE)
    assert answer.accepted, answer.message


def read_waiting(status: dict[str, Any]) -> str:
    """What condition Running says."""
    return next((str(each["message"]) for each in status.get("conditions", []) if each["type"] == "Running"), "")
