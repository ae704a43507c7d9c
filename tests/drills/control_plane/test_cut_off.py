"""A leader that is cut off from the API server, while another replica is not."""

from __future__ import annotations

import time
from pathlib import Path

from finetune_operator.clients.lease import LeaseTimes
from tests.contract.server import Server
from tests.control_plane.replicas import await_leader, await_ready, open_scene
from tests.drills.api_proxy import SILENT, ApiProxy, Rule
from tests.drills.table import Drill, rehearse

LEASE = LeaseTimes()
CUT_OFF = Drill(
    "leader cut off from the API server",
    "its requests are never answered, its watches cut",
    "it ends before its lease does, the other works after that, never both",
)


def test_leader_that_is_cut_off_ends_before_its_lease_and_the_other_works_after_it(
    server: Server, tmp_path: Path
) -> None:
    with (
        rehearse(CUT_OFF) as sighting,
        open_scene(server, tmp_path) as scene,
        ApiProxy(server.kubeconfig, tmp_path / "proxy") as proxy,
        scene.run("one", proxy.kubeconfig) as one,
    ):
        await_leader(one)
        with scene.run("two") as two:
            await_ready(two)
            scene.await_writes("one", 0.0, seconds=20)
            proxy.rules.append(Rule(SILENT, lambda _: True, times=1_000_000))
            proxy.cut_watches()
            cut, clock = time.time(), time.monotonic()
            assert one.process.wait(30) == 1
            lasted = time.monotonic() - clock
            assert lasted < LEASE.duration
            first = scene.await_writes("two", cut, seconds=60)
            assert first.begun - cut < LEASE.duration + LEASE.retry
            assert scene.find_overlaps() == []
            attempts = [call.at - clock for call in proxy.writes if call.at > clock]
            assert all(at < LEASE.renew_deadline for at in attempts)
            sighting.recovery_seconds = first.begun - cut
            sighting.seen = (
                f"it ended after {lasted:.1f} s; its last write was tried after {max(attempts, default=0):.1f} s"
            )
        assert "could not be renewed in time" in one.log.read_text()
