"""Whatever happens to a worker, an agent, a pod or the operator: the job goes on by itself, in the pods that are left.

One long job takes all the faults, one after the other.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.drills.cluster.containers import find_operator
from tests.drills.cluster.drill_ground import DrillGround
from tests.drills.cluster.make import SAVE_STEPS, make_drill_job
from tests.drills.cluster.siege import Fault, check_checkpoints, settle, survive
from tests.drills.cluster.watched_job import WatchedJob
from tests.drills.table import Drill, rehearse

IN_PLACE = "next attempt in the same pods, at most one snapshot interval lost, the failure names rank and cause"
REPLACED = "only that pod is replaced, at most one save interval lost and what was not yet uploaded"
UPLOADING = SAVE_STEPS


@pytest.fixture(scope="module")
def job(drill_ground: DrillGround) -> Iterator[WatchedJob]:
    """The long job; the ground's end removes it."""
    job = WatchedJob(drill_ground, "steady")
    drill_ground.kubectl.apply(make_drill_job(job.name))
    job.await_training()
    yield job
    drill_ground.clear()


def _signal(number: signal.Signals, node: int) -> Callable[[WatchedJob], None]:
    return lambda job: job.worker(node).strike(number)


def _sabotage(order: str, node: int) -> Callable[[WatchedJob], None]:
    return lambda job: job.worker(node).sabotage(order)


def _kill_agents(*nodes: int) -> Callable[[WatchedJob], None]:
    def kill(job: WatchedJob) -> None:
        for agent in [job.agent(node) for node in nodes]:
            agent.strike(signal.SIGKILL)

    return kill


def _delete_pods(*nodes: int, now: bool = False) -> Callable[[WatchedJob], None]:
    def delete(job: WatchedJob) -> None:
        pods = job.look().pods
        names = [pods[node]["metadata"]["name"] for node in nodes]
        how = ("--grace-period=0", "--force") if now else ()
        job.ground.kubectl("delete", "pod", *names, "--wait=false", *how)

    return delete


def _kill_launcher(job: WatchedJob) -> None:
    """The process that forks workers, and a worker with it."""
    worker = job.worker(1)
    type(worker)(worker.parent, 0, "").strike(signal.SIGKILL)
    worker.strike(signal.SIGKILL)


def _kill_operator_and_worker(job: WatchedJob) -> None:
    """Nobody is there to see the worker die; a second operator dies before it can say a word."""
    for _ in range(2):
        pod = job.ground.operator_pod()
        operator = find_operator(str(pod["uid"]))
        if operator is not None:
            operator.strike(signal.SIGKILL)
    job.worker(0).strike(signal.SIGKILL)
    job.ground.system("delete", "pod", "-l", "app.kubernetes.io/name=finetune-operator", "--wait=false")


ALWAYS = [
    Fault(
        Drill("worker SIGKILL", "kill -9 of the worker of node 1", IN_PLACE),
        _signal(signal.SIGKILL, 1),
        says=("signal 9",),
    ),
    Fault(
        Drill("agent killed", "kill -9 of the agent of node 1", REPLACED),
        _kill_agents(1),
        reasons=frozenset({"PodLost"}),
        replaced=frozenset({1}),
        lost_steps=SAVE_STEPS + UPLOADING,
    ),
    Fault(
        Drill("pod drained", "kubectl delete pod of node 1, with grace", "0 steps lost, only that pod is replaced"),
        _delete_pods(1),
        result="Stopped",
        reasons=frozenset({"PodDrained"}),
        replaced=frozenset({1}),
        lost_steps=0,
    ),
]
MORE = [
    *(
        Fault(
            Drill(f"worker {number.name}", f"{number.name} to the worker of node {node}", IN_PLACE),
            _signal(number, node),
            says=(f"signal {int(number)}",),
        )
        for number, node in (
            (signal.SIGSEGV, 0),
            (signal.SIGABRT, 1),
            (signal.SIGBUS, 0),
            (signal.SIGTERM, 1),
        )
    ),
    Fault(
        Drill("worker SIGINT", "SIGINT to the worker of node 0", IN_PLACE),
        _signal(signal.SIGINT, 0),
        says=("KeyboardInterrupt",),
    ),
    *(
        Fault(
            Drill(f"worker exits {code}", f"the worker of node 1 calls os._exit({code})", IN_PLACE),
            _sabotage(f"exit {code}", 1),
            says=(f"{code}",),
        )
        for code in (1, 70)
    ),
    Fault(
        Drill("worker exits 0", "the worker of node 1 ends as if it were done", IN_PLACE),
        _sabotage("exit 0", 1),
    ),
    Fault(
        Drill("Python exception", "an exception in the worker of node 0", IN_PLACE),
        _sabotage("raise", 0),
        says=("sabotage: an exception",),
    ),
    Fault(
        Drill(
            "hang in Python", "the worker of node 0 sleeps", "the verdict names the line that hangs, then " + IN_PLACE
        ),
        _sabotage("sleep 600", 0),
        reasons=frozenset({"HangDetected"}),
        says=("_sleep",),
    ),
    Fault(
        Drill("hang, frozen", "SIGSTOP to the worker of node 1", "the verdict names rank 1, then " + IN_PLACE),
        _signal(signal.SIGSTOP, 1),
        reasons=frozenset({"HangDetected"}),
    ),
    Fault(
        Drill("launcher killed", "kill -9 of the process that forks workers on node 1", IN_PLACE),
        _kill_launcher,
        replaced=frozenset(),
    ),
    Fault(
        Drill("pod deleted", "kubectl delete pod of node 0 with no grace", REPLACED),
        _delete_pods(0, now=True),
        reasons=frozenset({"PodLost"}),
        replaced=frozenset({0}),
        lost_steps=SAVE_STEPS + UPLOADING,
    ),
    Fault(
        Drill("both agents killed", "kill -9 of both agents", "both pods are replaced, all from the bucket"),
        _kill_agents(0, 1),
        reasons=frozenset({"PodLost"}),
        replaced=frozenset({0, 1}),
        lost_steps=SAVE_STEPS + UPLOADING,
    ),
    Fault(
        Drill("operator killed twice", "the operator dies twice while a worker dies", IN_PLACE),
        _kill_operator_and_worker,
        says=("signal 9",),
    ),
    Fault(
        Drill("not a number", "one forward pass of node 0 yields NaN", "back to a checkpoint, the step's rows skipped"),
        _sabotage("nan", 0),
        reasons=frozenset({"NumericError"}),
    ),
    Fault(
        Drill("device memory", "torch.OutOfMemoryError on node 0", "half the micro-batch, the same pods"),
        _sabotage("device-memory", 0),
        reasons=frozenset({"OutOfMemory"}),
    ),
]


@pytest.mark.parametrize("fault", ALWAYS, ids=lambda fault: fault.drill.name.replace(" ", "-"))
def test_the_job_goes_on(job: WatchedJob, fault: Fault) -> None:
    survive(job, fault)


@pytest.mark.drill
@pytest.mark.parametrize("fault", MORE, ids=lambda fault: fault.drill.name.replace(" ", "-"))
def test_the_job_goes_on_whatever_else_happens(job: WatchedJob, fault: Fault) -> None:
    survive(job, fault)


@pytest.mark.drill
def test_less_memory_and_skipped_steps_are_written_down(job: WatchedJob) -> None:
    """After the two faults above: the next attempts run with what was decided."""
    status = settle(job).look.status
    assert status["attempts"][-1]["microBatchSize"] == 2
    assert len(status["skippedSteps"]) == 1


SUSPEND = Drill("suspend", "suspend: true, then false", "0 steps lost, no pod while suspended, Suspended=True")
TOGGLE = Drill("suspend toggled", "suspend true/false five times within a second", "the job runs, no pod too many")


def test_suspend_loses_nothing_and_frees_the_pods(job: WatchedJob) -> None:
    standing = settle(job)
    with rehearse(SUSPEND) as sighting:
        job.apply_patch({"suspend": True})
        job.await_status(lambda status: status["phase"] == "Suspended", "is suspended")
        assert job.ground.is_empty()
        job.apply_patch({"suspend": False})
        job.await_training(standing.look.attempt + 1)
        after = job.look()
        ended = after.attempt_entry(standing.look.attempt)
        assert (ended["result"], ended["reason"], ended["lostSteps"]) == ("Stopped", "Suspended", 0), ended
        sighting.lost_steps, sighting.seen = 0, f"suspended at step {ended['lastStep']}, went on there"
        check_checkpoints(job, after, ended["lastStep"])


@pytest.mark.drill
def test_suspend_toggled_quickly_settles_at_what_was_asked_last(job: WatchedJob) -> None:
    standing = settle(job)
    with rehearse(TOGGLE) as sighting:
        for number in range(10):
            job.apply_patch({"suspend": number % 2 == 0})
        job.await_training(standing.look.attempt, beyond=standing.step)
        after = job.await_status(lambda status: status["phase"] == "Running", "runs")
        attempts = [(entry["number"], entry["result"], entry["lostSteps"]) for entry in after.status["attempts"]]
        sighting.seen = json.dumps(attempts[-3:])
        assert len(job.ground.kubectl.list("pods", f"finetune.dev/job={job.name}")) == 2
        assert sum(lost for number, _, lost in attempts if number >= standing.look.attempt) == 0
        check_checkpoints(job, after, standing.newest_checkpoint)
