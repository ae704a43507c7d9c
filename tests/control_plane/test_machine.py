"""Whatever happens to a job in whatever order: what must hold always, tried by hypothesis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from finetune_contract import names
from finetune_contract.attempt import Attempt
from finetune_contract.exits import FailureClass
from finetune_contract.progress import RankHeartbeat
from finetune_contract.status import AttemptStatus, FineTuneJobStatus, Phase
from finetune_operator.actions import Actions
from finetune_operator.plan.attempts import find_attempt
from finetune_operator.plan.conditions import is_true
from finetune_operator.plan.lifecycle import decide
from finetune_operator.plan.phases import is_terminal
from finetune_operator.snapshot import Answer, Pod, Rejection, Snapshot
from tests.control_plane.event_table import list_documented_events
from tests.control_plane.make import (
    NOW,
    make_accepted_job,
    make_answer,
    make_failure,
    make_outcome,
    make_record,
    make_snapshot,
    make_step,
)
from tests.control_plane.world import asks_for_nothing, obey, run_pods

ORDER: tuple[Phase, ...] = ("Pending", "Preparing", "Starting", "Running", "Evaluating", "Publishing")
WORK = st.sampled_from(["Idle", "Preparing", "Starting", "Training", "Evaluating", "Finalizing", "Publishing"])
NODE = st.integers(0, 2)
BACK = st.sampled_from([0, 0, 0, 1])
"""How many attempts ago an agent speaks of."""
LIMITS = {"activeDeadlineSeconds": 20_000, "queueDeadlineSeconds": 9000, "ttlSecondsAfterFinished": 4000}


class JobMachine(RuleBasedStateMachine):
    """A job; between two events the operator decides until it has nothing more to do."""

    spec: dict[str, Any] = {"resources": {"nodes": 2}, "data": {"prepare": "inline"}}
    grace: float | None = 120.0

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.suspended = False
        policy = {"failurePolicy": {"numeric": "rollback"}, "lifecycle": {**LIMITS, "backoffLimit": 5}}
        self.wish = {**self.spec, **policy}
        self.snapshot: Snapshot = make_snapshot(self.wish)
        self.gone = False
        self.told: dict[int, dict[str, str]] = {}
        self.settle()

    @rule(seconds=st.sampled_from([1, 4, 12, 31, 70, 400]), agents_answer=st.booleans())
    def wait(self, seconds: int, agents_answer: bool) -> None:
        self.now += seconds
        if agents_answer:
            self.let_agents_answer()
        self.settle()

    @rule()
    def pods_come_up(self) -> None:
        self.snapshot = run_pods(self.snapshot)
        self.settle()

    @rule(node=NODE, back=BACK, phase=WORK, step=st.integers(0, 10), knows_data=st.booleans())
    def agent_works(self, node: int, back: int, phase: Any, step: int, knows_data: bool) -> None:
        data = {} if knows_data else {"data": None}
        rank = RankHeartbeat(rank=0, phase="training", step=step, at=self.now)
        self.say(node, back, phase=phase, step=make_step(step), ranks=(rank,), **data)

    @rule(node=NODE, back=BACK, class_=st.sampled_from(FailureClass), secondary=st.booleans())
    def agent_fails(self, node: int, back: int, class_: FailureClass, secondary: bool) -> None:
        failure = make_failure(node=node, failure_class=class_, secondary=secondary, step=3, at=self.now)
        self.say(node, back, phase="Failed", news=True, failure=failure)

    @rule(node=NODE, back=BACK)
    def agent_stops(self, node: int, back: int) -> None:
        self.say(node, back, phase="Stopped", news=True, step=make_step())

    @rule(node=NODE, step=st.integers(0, 10))
    def attempt_resumes(self, node: int, step: int) -> None:
        self.say(node, resumed_from=step or None, step=make_step(step))

    @rule(step=st.integers(1, 10))
    def checkpoint_is_saved(self, step: int) -> None:
        self.say(0, step=make_step(step), checkpoints=(make_record(step),), best_step=step)

    @rule(succeeded=st.booleans())
    def outcome_is_told(self, succeeded: bool) -> None:
        self.say(0, phase="Finished", news=True, outcome=make_outcome(succeeded=succeeded))

    @rule(failure=st.sampled_from([None, None, FailureClass.STORAGE, FailureClass.CODE]))
    def preparation_ends(self, failure: FailureClass | None) -> None:
        facts: dict[str, Any] = {"phase": "Finished"}
        if failure is not None:
            words = make_failure(failure_class=failure, at=self.now)
            facts = {"phase": "Failed", "data": None, "failure": words}
        for pod in self.snapshot.pods:
            if pod.role == names.ROLE_PREPARE and pod.is_running:
                self.hear(pod, make_answer(self.now, heard=self.now, role="prepare", attempt=0, news=True, **facts))
        self.settle()

    @precondition(lambda self: bool(self.snapshot.pods))
    @rule(which=st.integers(0, 3))
    def pod_is_lost(self, which: int) -> None:
        self.change(which, None)

    @precondition(lambda self: bool(self.snapshot.pods))
    @rule(which=st.integers(0, 3), ended=st.sampled_from(["Succeeded", "Failed"]), memory=st.booleans())
    def pod_ends(self, which: int, ended: Any, memory: bool) -> None:
        reason = "OOMKilled" if memory else ""
        code = 0 if ended == "Succeeded" else 137
        self.change(which, {"phase": ended, "reason": reason, "exit_code": code, "host": "node-b"})

    @precondition(lambda self: bool(self.snapshot.pods))
    @rule(which=st.integers(0, 3), ready=st.booleans())
    def pod_is_drained(self, which: int, ready: bool) -> None:
        self.change(which, {"deletion_time": self.now + 120, "ready": ready})

    @rule()
    def pods_that_were_asked_to_go_are_gone(self) -> None:
        self.keep([pod for pod in self.snapshot.pods if not pod.deleting])
        self.settle()

    @rule()
    def suspend_is_toggled(self) -> None:
        self.suspended = not self.suspended
        self.apply()
        self.settle()

    @rule()
    def operator_restarts(self) -> None:
        self.snapshot = replace(self.snapshot, answers={}, rejection=None, listening_since=self.now)
        self.settle()

    @rule()
    def operator_dies_between_two_writes(self) -> None:
        """The status was written, and nothing else."""
        self.now += 20
        actions = decide(self.snapshot, self.now)
        self.snapshot = obey(self.snapshot, Actions(create=actions.create, status=actions.status), self.now)
        self.snapshot = replace(self.snapshot, answers={}, listening_since=self.now)
        self.settle()

    @rule(final=st.sampled_from([False, False, False, True]))
    def pod_is_refused(self, final: bool) -> None:
        self.snapshot = replace(self.snapshot, rejection=Rejection("no", final))
        self.settle()
        self.snapshot = replace(self.snapshot, rejection=None)
        self.settle()

    @rule()
    def spec_is_changed(self) -> None:
        self.snapshot = replace(self.snapshot, generation=self.snapshot.generation + 1, unsupported="not yet")
        self.settle()

    @rule()
    def world_heals(self) -> None:
        """When nothing is wrong any more, an attempt is under way in the end, and its members know of it."""
        self.suspended = False
        self.apply()
        self.settle()
        for _ in range(12):
            if self.gone or is_terminal(self.snapshot.status) or self.is_on_its_way():
                return
            self.now += 60
            self.keep([pod for pod in self.snapshot.pods if not pod.deleting])
            self.snapshot = run_pods(self.snapshot)
            self.let_agents_answer()
            self.let_agents_obey()
            self.settle()
        raise AssertionError(f"the job sticks: {self.snapshot.status.to_json()}")

    @invariant()
    def nothing_is_left_to_do(self) -> None:
        assert self.gone or asks_for_nothing(decide(self.snapshot, self.now))

    @invariant()
    def end_and_phase_agree(self) -> None:
        status = self.snapshot.status
        assert is_terminal(status) == (status.phase in ("Succeeded", "Failed")) == (status.completion_time is not None)
        assert all(attempt.end_time is not None for attempt in status.attempts[:-1])
        assert not is_terminal(status) or find_attempt(status) is None

    @invariant()
    def suspended_job_has_no_pods(self) -> None:
        status = self.snapshot.status
        if status.phase == "Suspended":
            assert is_true(status, names.CONDITION_SUSPENDED)
            assert self.snapshot.pods == ()

    @invariant()
    def job_that_goes_on_says_what_it_waits_for(self) -> None:
        status = self.snapshot.status
        if self.gone or is_terminal(status) or status.phase == "Suspended":
            return
        waits = [
            pod
            for pod in self.snapshot.pods
            if pod.phase == "Pending" or pod.deleting or pod.role == names.ROLE_PREPARE
        ]
        assert decide(self.snapshot, self.now).requeue_after is not None or waits or find_attempt(status)
        assert next(each.message for each in status.conditions if each.type == names.CONDITION_RUNNING)

    def say(self, node: int, back: int = 0, **facts: Any) -> None:
        """The agent of the node's newest pod speaks, if it can."""
        speakers = [pod for pod in self.snapshot.trainers if pod.node_index == node and pod.is_running]
        if speakers:
            pod = speakers[-1]
            known = Attempt.from_json(pod.attempt).number if pod.attempt else 0
            attempt = max(0, known - back)
            self.hear(pod, make_answer(self.now, heard=self.now, node=node, **{"attempt": attempt, **facts}))
        self.settle()

    def hear(self, pod: Pod, answer: Answer) -> None:
        self.snapshot = replace(self.snapshot, answers={**self.snapshot.answers, pod.key.name: answer})

    def let_agents_answer(self) -> None:
        answers = {name: replace(answer, heard=self.now) for name, answer in self.snapshot.answers.items()}
        self.snapshot = replace(self.snapshot, answers=answers)

    def let_agents_obey(self) -> None:
        """Each agent does what it was told, and says so."""
        for pod in self.snapshot.pods:
            if pod.role == names.ROLE_PREPARE and pod.is_running:
                self.hear(pod, make_answer(self.now, heard=self.now, role="prepare", attempt=0, phase="Finished"))
            elif pod.is_running and pod.attempt:
                number = Attempt.from_json(pod.attempt).number
                phase = "Stopped" if pod.stop and f'"attempt": {number},' in pod.stop else "Training"
                facts = {"attempt": number, "phase": phase, "node": pod.node_index, "step": make_step()}
                self.hear(pod, make_answer(self.now, heard=self.now, **facts))
            elif pod.is_running:
                facts = {"attempt": 0, "phase": "Idle", "node": pod.node_index, "data": None}
                self.hear(pod, make_answer(self.now, heard=self.now, **facts))

    def is_on_its_way(self) -> bool:
        attempt = find_attempt(self.snapshot.status)
        if attempt is None or attempt.stop_time is not None:
            return False
        pods = {pod.key.name: pod for pod in self.snapshot.pods}
        members = [pods[name] for name in attempt.members.values() if name in pods]
        told = [Attempt.from_json(pod.attempt).number for pod in members if pod.attempt]
        answers = [self.snapshot.answers.get(pod.key.name) for pod in members]
        return told == [attempt.number] * attempt.nodes and all(
            answer is not None and answer.progress.attempt == attempt.number and answer.progress.phase == "Training"
            for answer in answers
        )

    def change(self, which: int, facts: dict[str, Any] | None) -> None:
        """Something happens to one pod; None: it is gone."""
        pods = list(self.snapshot.pods)
        pod = pods.pop(which % len(pods))
        if facts is not None:
            pods.append(replace(pod, **facts))
        self.keep(sorted(pods, key=lambda each: (each.role, each.node_index, each.incarnation)))
        self.settle()

    def keep(self, pods: list[Pod]) -> None:
        there = {pod.key.name for pod in pods}
        answers = {name: answer for name, answer in self.snapshot.answers.items() if name in there}
        self.snapshot = replace(self.snapshot, pods=tuple(pods), answers=answers)

    def apply(self) -> None:
        job = make_accepted_job({**self.wish, "suspend": self.suspended})
        self.snapshot = replace(self.snapshot, job=job, generation=self.snapshot.generation + 1)

    def settle(self) -> None:
        """Decide until nothing is left; every single decision keeps the promises."""
        for _ in range(6):
            before = self.snapshot
            actions = decide(before, self.now)
            if self.gone or asks_for_nothing(actions):
                return
            self.snapshot = obey(before, actions, self.now, grace=self.grace)
            self.keep(list(self.snapshot.pods))
            self.gone = actions.delete_job
            self.check(before, actions)
            if actions.create and before.rejection is not None:
                # What was refused is tried again later: this pass is over.
                self.snapshot = replace(self.snapshot, pods=before.pods)
                return
        raise AssertionError("the operator does not come to rest")

    def check(self, before: Snapshot, actions: Actions) -> None:
        old, new = before.status, self.snapshot.status
        if is_terminal(old):
            assert not actions.create
            assert new == old
        check_attempts(old, new)
        check_phase(old, new)
        check_checkpoints(before, new)
        check_usage(old, new)
        assert {(event.type, event.reason) for event in actions.events} <= list_documented_events()
        created = [each["metadata"]["name"] for each in actions.create]
        assert len(set(created)) == len(created)
        assert not set(created) & {pod.key.name for pod in before.pods}
        assert not self.gone or is_terminal(old)
        for told in actions.annotate:
            if names.ANNOTATION_ATTEMPT in told.annotations:
                attempt = Attempt.from_json(told.annotations[names.ANNOTATION_ATTEMPT])
                assert self.told.setdefault(attempt.number, dict(attempt.members)) == attempt.members


def check_attempts(old: FineTuneJobStatus, new: FineTuneJobStatus) -> None:
    """Numbers grow by one; what is closed stays as it is, but for the steps that turn out to be lost."""
    folded = new.attempts_folded.count if new.attempts_folded else 0
    assert [each.number for each in new.attempts] == list(range(folded + 1, folded + 1 + len(new.attempts)))
    known = {each.number: settle_account(each) for each in new.attempts}
    for attempt in old.attempts:
        if attempt.end_time is not None and attempt.number in known:
            assert known[attempt.number] == settle_account(attempt)


def check_usage(old: FineTuneJobStatus, new: FineTuneJobStatus) -> None:
    """What was used is never used less, and no more was got for it than that."""
    assert new.usage.held_seconds >= old.usage.held_seconds
    assert new.usage.training_seconds >= old.usage.training_seconds
    assert 0.0 <= new.usage.lost_seconds <= new.usage.training_seconds
    assert new.usage.goodput is None or 0.0 <= new.usage.goodput <= 1.0


def settle_account(attempt: AttemptStatus) -> AttemptStatus:
    return attempt.model_copy(update={"lost_steps": 0})


def check_phase(old: FineTuneJobStatus, new: FineTuneJobStatus) -> None:
    before, after = find_attempt(old), find_attempt(new)
    same = (before and before.number) == (after and after.number)
    if same and old.phase in ORDER and new.phase in ORDER:
        assert ORDER.index(new.phase) >= ORDER.index(old.phase)


def check_checkpoints(before: Snapshot, new: FineTuneJobStatus) -> None:
    """Only a ledger takes a checkpoint out of the status."""
    ledgers = [answer.progress.checkpoints for answer in before.answers.values()]
    assert new.checkpoints == before.status.checkpoints or new.checkpoints in ledgers


class PreparedJobMachine(JobMachine):
    """The same with a pod that prepares the data first, and GPUs that cost a budget."""

    spec = {
        "resources": {"nodes": 2, "gpusPerNode": 1},
        "data": {"prepare": "pod"},
        "budget": {"maxGpuHours": 100.0},
    }


class ElasticJobMachine(JobMachine):
    """The same on one to three nodes, whose pods go at once when they are deleted."""

    spec = {
        "resources": {"nodes": 2, "elastic": {"minNodes": 1, "maxNodes": 3, "patienceSeconds": 60}},
        "data": {"prepare": "inline"},
    }
    grace = None


TestJob = JobMachine.TestCase
TestPreparedJob = PreparedJobMachine.TestCase
TestElasticJob = ElasticJobMachine.TestCase
TestJob.settings = TestPreparedJob.settings = TestElasticJob.settings = settings(
    max_examples=50, stateful_step_count=30, deadline=None
)
