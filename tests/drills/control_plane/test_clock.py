"""The operator's clock jumps: nothing is decided by it that was not due, and nothing that was counted shrinks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from finetune_operator.plan.lifecycle import decide
from finetune_operator.snapshot import Snapshot
from tests.control_plane.make import NOW, make_answer, make_snapshot, make_step
from tests.control_plane.world import hear, run_pods, step


def make_training() -> Snapshot:
    """A job whose only attempt trains."""
    snapshot = run_pods(step(make_snapshot({"resources": {"gpusPerNode": 1}, "data": {"prepare": "inline"}}), NOW))
    snapshot = step(snapshot, NOW + 1)
    heard = hear(snapshot, make_answer(since=NOW + 20, step=make_step()))
    heard = replace(heard, answers={name: replace(each, heard=NOW + 30) for name, each in heard.answers.items()})
    return step(step(heard, NOW + 30), NOW + 30)


@pytest.mark.parametrize("jump", [-86_400.0, -3_600.0, -1.0, 3_600.0])
def test_jump_of_the_clock_ends_no_attempt_and_creates_nothing(jump: float) -> None:
    training = make_training()
    actions = decide(training, NOW + 30 + jump)
    after = actions.status or training.status
    assert (actions.create, actions.delete_pods, actions.force_delete_pods) == ((), (), ())
    assert [attempt.end_time for attempt in after.attempts] == [None]
    assert after.phase == training.status.phase == "Running"
    assert after.usage.gpu_seconds >= training.status.usage.gpu_seconds >= 0.0
