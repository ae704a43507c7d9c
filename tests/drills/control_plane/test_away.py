"""Somebody is away for a while: the API server, the operator, or a leader that comes back with an old lease."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.drills.api_proxy import ApiProxy
from tests.drills.control_plane.journey import go_round
from tests.drills.control_plane.operators import Replica
from tests.drills.control_plane.stage import Stage
from tests.drills.control_plane.trials import EXPECTED, SECONDS, Trials
from tests.drills.table import Drill, rehearse
from tests.waiting import wait_for

AWAY_SECONDS = [10, pytest.param(60, marks=pytest.mark.drill)]


def test_job_goes_on_after_an_api_server_that_was_not_there(
    trials: Trials, make_stage: Callable[[str], Stage], away_seconds: int
) -> None:
    stage = make_stage("away")

    def be_away() -> None:
        stage.proxy.go_away()
        let_pass(stage, away_seconds)
        stage.proxy.come_back()

    rehearse_midway(trials, stage, f"API server away for {away_seconds} s", "connections refused", be_away)


def test_job_goes_on_after_an_api_server_that_hung(
    trials: Trials, make_stage: Callable[[str], Stage], away_seconds: int
) -> None:
    stage = make_stage("hung")

    def hang() -> None:
        with stopped(stage):
            let_pass(stage, away_seconds)

    rehearse_midway(trials, stage, f"API server hangs for {away_seconds} s", "SIGSTOP, SIGCONT of kube-apiserver", hang)


def test_job_goes_on_after_cut_watches(trials: Trials, make_stage: Callable[[str], Stage]) -> None:
    stage = make_stage("cut")
    rehearse_midway(trials, stage, "watches cut", "every open watch is reset", stage.proxy.cut_watches)


def test_job_goes_on_after_two_restarts_in_a_row(trials: Trials, make_stage: Callable[[str], Stage]) -> None:
    stage = make_stage("twice")

    def restart_twice() -> None:
        for _ in range(2):
            stage.operator.kill()
            wait_for(lambda: stage.operator.has_ended, "the operator is dead", seconds=10)
            calls = len(stage.proxy.calls)
            stage.operator.keep_running()
            wait_for(lambda before=calls: len(stage.proxy.calls) > before, "it asks again", seconds=60)  # type: ignore[misc]

    rehearse_midway(trials, stage, "operator killed twice", "SIGKILL, again at its first call", restart_twice)


def test_leader_that_slept_past_its_lease_writes_nothing(
    trials: Trials, make_stage: Callable[[str], Stage], tmp_path: Path
) -> None:
    stage = make_stage("asleep")
    kubeconfig = tmp_path / "second.kubeconfig"
    with ExitStack() as second, ApiProxy(trials.server.kubeconfig, kubeconfig) as proxy:
        woken_at: list[int] = []

        def oversleep() -> None:
            second.enter_context(Replica(kubeconfig, tmp_path, stage.play.namespace, trials.agent_port, "second"))
            wait_for(lambda: bool(proxy.calls), "the second replica is up", seconds=60)
            stage.operator.pause()
            wait_for(lambda: any(call.is_write for call in proxy.calls), "the second leads", seconds=60)
            woken_at.append(len(stage.proxy.calls))
            stage.operator.resume()
            wait_for(lambda: stage.operator.has_ended, "the first ends", seconds=60)
            assert [call for call in stage.proxy.calls[woken_at[0] :] if call.is_write] == []

        rehearse_midway(trials, stage, "leader stopped past its lease", "SIGSTOP, takeover, SIGCONT", oversleep)
        assert proxy.writes, "the second replica has worked"


@pytest.fixture(params=AWAY_SECONDS, ids=lambda seconds: f"{seconds}s")
def away_seconds(request: pytest.FixtureRequest) -> int:
    """Return for how long somebody is away."""
    seconds: int = request.param
    return seconds


def rehearse_midway(trials: Trials, stage: Stage, name: str, fault: str, midway: Callable[[], None]) -> None:
    ended: list[float] = []

    def note() -> None:
        midway()
        ended.append(time.monotonic())

    with rehearse(Drill(name, fault, EXPECTED)) as sighting:
        ending = go_round(stage, SECONDS, note)
        sighting.recovery_seconds = time.monotonic() - ended[0]
        assert ending == trials.undisturbed.ending
        sighting.seen = f"the same, operator started {stage.operator.starts} x"


def let_pass(stage: Stage, seconds: float) -> None:
    """Time during which only the operator and who starts it are there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        stage.operator.keep_running()
        time.sleep(0.2)


@contextmanager
def stopped(stage: Stage) -> Iterator[None]:
    """The API server's process stands still."""
    pid = int((stage.proxy.upstream.parent / "kube-apiserver.pid").read_text().split()[0])
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
