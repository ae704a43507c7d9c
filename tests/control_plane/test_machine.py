"""Whatever happens to a job in whatever order: what must hold always, tried by hypothesis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from finetune_contract.exits import FailureClass
from finetune_contract.status import Phase
from finetune_operator.plan.lifecycle import decide
from finetune_operator.plan.phases import is_terminal
from finetune_operator.snapshot import Rejection, Snapshot
from tests.control_plane.make import NOW, make_answer, make_failure, make_outcome, make_record, make_snapshot, make_step
from tests.control_plane.world import asks_for_nothing, hear, obey, run_pods

ORDER: tuple[Phase, ...] = ("Pending", "Preparing", "Starting", "Running", "Evaluating", "Publishing")
WORK = st.sampled_from(["Idle", "Preparing", "Starting", "Training", "Evaluating", "Finalizing", "Publishing"])
SPEC = {
    "resources": {"nodes": 2},
    "lifecycle": {"activeDeadlineSeconds": 5000, "queueDeadlineSeconds": 900, "ttlSecondsAfterFinished": 4000},
}


class JobMachine(RuleBasedStateMachine):
    """A job on two nodes; between two events the operator decides until it has nothing more to do."""

    prepare = "inline"

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.snapshot: Snapshot = make_snapshot({**SPEC, "data": {"prepare": self.prepare}})
        self.gone = False
        self.settle()

    @rule(seconds=st.sampled_from([1, 4, 15, 31, 400]))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        self.settle()

    @rule()
    def pods_come_up(self) -> None:
        self.snapshot = run_pods(self.snapshot)
        self.settle()

    @rule(node=st.integers(0, 1), phase=WORK, step=st.integers(0, 10), knows_data=st.booleans())
    def agent_works(self, node: int, phase: Any, step: int, knows_data: bool) -> None:
        data = {} if knows_data else {"data": None}
        self.say(node, phase=phase, step=make_step(step), **data)

    @rule(node=st.integers(0, 1), class_=st.sampled_from(FailureClass))
    def agent_fails(self, node: int, class_: FailureClass) -> None:
        self.say(node, phase="Failed", news=True, failure=make_failure(node=node, failure_class=class_))

    @rule(step=st.integers(1, 10))
    def checkpoint_is_saved(self, step: int) -> None:
        self.say(0, step=make_step(step), checkpoints=(make_record(step),), best_step=step)

    @rule(succeeded=st.booleans())
    def outcome_is_told(self, succeeded: bool) -> None:
        self.say(0, phase="Finished", news=True, outcome=make_outcome(succeeded=succeeded))

    @rule()
    def data_is_prepared(self) -> None:
        self.snapshot = hear(
            self.snapshot, make_answer(self.now, role="prepare", attempt=0, phase="Finished", news=True)
        )
        self.settle()

    @precondition(lambda self: bool(self.snapshot.pods))
    @rule(which=st.integers(0, 2))
    def pod_is_lost(self, which: int) -> None:
        pods = self.snapshot.pods
        self.snapshot = replace(self.snapshot, pods=pods[:which] + pods[which + 1 :])
        self.settle()

    @precondition(lambda self: bool(self.snapshot.pods))
    @rule(ended=st.sampled_from(["Succeeded", "Failed"]))
    def pod_ends(self, ended: Any) -> None:
        first, *rest = self.snapshot.pods
        self.snapshot = replace(self.snapshot, pods=(replace(first, phase=ended), *rest))
        self.settle()

    @rule()
    def operator_restarts(self) -> None:
        before = self.snapshot
        self.snapshot = replace(before, answers={}, rejection=None)
        self.settle()

    @rule(final=st.booleans())
    def pod_is_refused(self, final: bool) -> None:
        self.snapshot = replace(self.snapshot, rejection=Rejection("no", final))
        self.settle()

    @rule()
    def spec_is_changed(self) -> None:
        self.snapshot = replace(self.snapshot, generation=self.snapshot.generation + 1, unsupported="not yet")
        self.settle()

    @invariant()
    def nothing_is_left_to_do(self) -> None:
        assert self.gone or asks_for_nothing(decide(self.snapshot, self.now))

    @invariant()
    def end_and_phase_agree(self) -> None:
        status = self.snapshot.status
        assert is_terminal(status) == (status.phase in ("Succeeded", "Failed")) == (status.completion_time is not None)
        assert all((attempt.end_time is None) == (not is_terminal(status)) for attempt in status.attempts)

    def say(self, node: int, **facts: Any) -> None:
        attempt = 1 if self.snapshot.status.attempts else 0
        self.snapshot = hear(self.snapshot, make_answer(self.now, node=node, **{"attempt": attempt, **facts}))
        self.settle()

    def settle(self) -> None:
        """Decide until nothing is left; every single decision keeps the promises."""
        for _ in range(4):
            before = self.snapshot
            actions = decide(before, self.now)
            if self.gone or asks_for_nothing(actions):
                return
            self.snapshot = obey(before, actions, self.now)
            self.gone = actions.delete_job
            self.check(before, bool(actions.create))
        raise AssertionError("the operator does not come to rest")

    def check(self, before: Snapshot, created: bool) -> None:
        old, new = before.status, self.snapshot.status
        if is_terminal(old):
            assert not created
            assert new == old
        if old.phase in ORDER and new.phase in ORDER:
            assert ORDER.index(new.phase) >= ORDER.index(old.phase)
        assert not self.gone or is_terminal(old)


class PreparedJobMachine(JobMachine):
    """The same with a pod that prepares the data first."""

    prepare = "pod"


TestJob = JobMachine.TestCase
TestPreparedJob = PreparedJobMachine.TestCase
TestJob.settings = TestPreparedJob.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
