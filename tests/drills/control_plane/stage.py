"""Where one drill happens: a namespace, a proxy before the API server, an operator behind it, a person in front."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.drills.api_proxy import ApiProxy
from tests.drills.control_plane.operators import Replica
from tests.drills.control_plane.play import Play

INTERVAL_SECONDS = 0.05
Status = dict[str, Any]


@dataclass
class Stage:
    """One drill's own world."""

    play: Play
    proxy: ApiProxy
    operator: Replica

    def live(self, until: Callable[[Status], bool], what: str, *, seconds: float = 60.0) -> Status:
        """Everybody does his part until the status is so; what the operator wrote last is told when it never is."""
        deadline = time.monotonic() + seconds
        while True:
            self.operator.keep_running()
            self.play.look()
            status = self.play.read_status()
            if until(status):
                return status
            if time.monotonic() > deadline:
                log = self.operator.log.read_text(errors="replace").splitlines()[-15:]
                raise AssertionError("\n".join([f"waited {seconds:.0f} s in vain: {what}", str(status), *log]))
            time.sleep(INTERVAL_SECONDS)


@contextmanager
def open_stage(kubeconfig: Path, folder: Path, namespace: str, agent_port: int) -> Iterator[Stage]:
    """Set up; the operator starts with the first `live`."""
    play = Play.open(kubeconfig, namespace, agent_port)
    with (
        ApiProxy(kubeconfig, folder / f"{namespace}.kubeconfig") as proxy,
        Replica(proxy.kubeconfig, folder, namespace, agent_port, namespace) as operator,
    ):
        try:
            yield Stage(play, proxy, operator)
        finally:
            play.close()


def is_phase(phase: str) -> Callable[[Status], bool]:
    """Match a status in this phase."""
    return lambda status: status.get("phase") == phase
