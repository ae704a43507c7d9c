"""After the start, the API server lets only those fields change that a running job can follow."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest

from tests.contract.good_jobs import COMPLETE
from tests.contract.make import Data, make_data
from tests.contract.server import JOBS, Server

_NUMBERS = count()

FORBIDDEN: dict[str, Data] = {
    "spec.task": {"task": "text-classification", "training": {"packing": False}, "data": {"columns": None}},
    "spec.model": {"model": {"revision": "v2"}},
    "spec.data": {"data": {"columns": {"prompt": "p"}}},
    "spec.strategy": {"strategy": {"lora": {"targets": ["q_proj"]}}},
    "spec.training": {"training": {"deepspeed": {"config": {"wall_clock_breakdown": False}}}},
    "spec.evaluation": {"evaluation": {"gate": [{"metric": "f1", "min": 0.5}]}},
    "spec.output": {"output": {"destination": "gs://ml/other"}},
    "spec.resources.nodes": {"resources": {"nodes": 3}},
    "spec.resources.gpusPerNode": {"resources": {"gpusPerNode": 4}},
    "spec.resources.memory": {"resources": {"memory": None}},
    "spec.pod": {"pod": {"affinity": {"podAffinity": {"added": [1]}}}},
    "spec.lifecycle.backoffLimit": {"lifecycle": {"backoffLimit": 1}},
    "spec.lifecycle.activeDeadlineSeconds": {"lifecycle": {"activeDeadlineSeconds": None}},
    "spec.failurePolicy": {"failurePolicy": None},
    "spec.checkpoints": {"checkpoints": {"keepLast": 5}},
    "spec.storage": {"storage": {"secretRef": {"name": "other"}}},
}

CHANGED_TOO = {"spec.task": "spec.task, spec.data, spec.training"}
"""Where a field cannot be changed alone."""

ALLOWED: dict[str, Data] = {
    "suspend": {"suspend": True},
    "resume": {"suspend": None},
    "budget": {"budget": {"maxGpuHours": 100}},
    "no budget": {"budget": None},
    "ttl": {"lifecycle": {"ttlSecondsAfterFinished": 3600}},
    "node bounds": {"resources": {"elastic": {"maxNodes": 8}}},
    "no node bounds": {"resources": {"elastic": None}},
    "labels only": {},
}


@pytest.fixture
def make_started(server: Server) -> Callable[[str], str]:
    """Return a function that creates the complete job in a phase and returns its name."""

    def make(phase: str) -> str:
        name = f"immutable-{next(_NUMBERS)}"
        assert server.create(make_data(COMPLETE, name=name)).message == ""
        if phase:
            assert server.patch(name, {"status": {"phase": phase}}, "status").message == ""
        return name

    return make


@pytest.mark.parametrize(("field", "change"), FORBIDDEN.items(), ids=FORBIDDEN)
def test_a_running_job_keeps_the_field(
    server: Server, make_started: Callable[[str], str], field: str, change: Data
) -> None:
    answer = server.patch(make_started("Preparing"), {"spec": change})
    assert answer.code == 422
    changed = CHANGED_TOO.get(field, field)
    assert f"spec: Forbidden: {changed}, immutable once the job has started: delete the job" in answer.message


@pytest.mark.parametrize("change", ALLOWED.values(), ids=ALLOWED)
@pytest.mark.parametrize("phase", ["Running", "Suspended"])
def test_a_running_job_follows_the_change(
    server: Server, make_started: Callable[[str], str], phase: str, change: Data
) -> None:
    answer = server.patch(make_started(phase), {"spec": change, "metadata": {"labels": {"team": "b"}}})
    assert answer.message == ""


@pytest.mark.parametrize("phase", ["", "Pending"])
@pytest.mark.parametrize("change", FORBIDDEN.values(), ids=FORBIDDEN)
def test_a_job_that_has_not_started_may_change(
    server: Server, make_started: Callable[[str], str], change: Data, phase: str
) -> None:
    assert server.patch(make_started(phase), {"spec": change}).message == ""


def test_a_running_job_may_not_gain_a_part_that_it_lacked(server: Server) -> None:
    assert server.create(make_data(name="gains")).accepted
    assert server.patch("gains", {"status": {"phase": "Running"}}, "status").accepted
    answer = server.patch("gains", {"spec": {"training": {"epochs": 3}, "lifecycle": {"backoffLimit": 9}}})
    assert "spec: Forbidden: spec.training, spec.lifecycle.backoffLimit, immutable once" in answer.message


def test_a_job_whose_figures_move_keeps_its_fields_too(server: Server) -> None:
    name = "figures-move"
    assert server.create(make_data(name=name)).accepted
    for minute in (1, 2):
        status = {"phase": "Running", "progress": {"updatedTime": f"2026-09-21T10:0{minute}:00Z"}}
        assert server.patch(name, {"status": status}, "status").message == ""
    both = {"spec": {"training": {"epochs": 3}}, "status": {"progress": {"updatedTime": "2026-09-21T10:09:00Z"}}}
    assert "spec.training, immutable once" in server.patch(name, both).message
    assert server.patch(name, both, "status").message == ""
    job = server.request("GET", f"{JOBS}/{name}").body
    assert "training" not in job["spec"], "a write of the status leaves the spec alone"
