"""Reads the audit log of a control plane: every write, by whom, from when to when. Must not judge.

What may carry its writer's name: the user agent, for several clients may sign in as the same user.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

POLICY = Path(__file__).with_name("audit-policy.yaml")


@dataclass(frozen=True)
class Write:
    """One request that was to change something, as the API server saw it."""

    begun: float
    """Seconds since 1970: the request was received."""
    ended: float
    """It was answered."""
    agent: str
    """User agent of the client."""
    user: str
    verb: str
    resource: str
    """Plural, with a slash and the subresource where there is one."""
    namespace: str
    name: str
    code: int
    """HTTP status of the answer."""
    pod: str = ""
    """Whose token it was, where a pod signed in."""

    @property
    def succeeded(self) -> bool:
        """Whether the API server carried it out."""
        return self.code < 300


def arguments(folder: Path) -> list[str]:
    """Return kube-apiserver's arguments for an audit log in ``folder``; what is old is kept in files beside it."""
    return [f"--audit-policy-file={POLICY}", f"--audit-log-path={folder / 'audit.log'}", "--audit-log-maxsize=200"]


def read_writes(folder: Path, *, agent: str = "", namespace: str | None = None, since: float = 0.0) -> list[Write]:
    """Return the writes by clients whose user agent holds ``agent``, oldest first."""
    found = (
        write
        for write in _read(folder)
        if agent in write.agent and namespace in (None, write.namespace) and write.begun >= since
    )
    return sorted(found, key=lambda write: write.begun)


def find_overlaps(writes: Iterable[Write]) -> list[tuple[Write, Write]]:
    """Return the pairs of writes by different clients that are not in order: somebody's came before another's last.

    Clients may follow each other; none may come back after another has begun. Leases do not count: they are how
    clients find out whose turn it is.
    """
    times: dict[str, list[Write]] = {}
    for write in writes:
        if write.resource != "leases":
            times.setdefault(write.agent, []).append(write)
    turns = sorted(
        ((min(each, key=lambda w: w.begun), max(each, key=lambda w: w.ended)) for each in times.values()),
        key=lambda turn: turn[0].begun,
    )
    return [(last, first) for (_, last), (first, _) in pairwise(turns) if first.begun < last.ended]


def _read(folder: Path) -> Iterator[Write]:
    for path in sorted(folder.glob("audit*.log")):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                # The last line may be half written.
                if line.endswith("\n"):
                    yield _parse(json.loads(line))


def _parse(event: dict[str, Any]) -> Write:
    reference = event.get("objectRef", {})
    parts = (reference.get("resource", ""), reference.get("subresource", ""))
    pods = event["user"].get("extra", {}).get("authentication.kubernetes.io/pod-name", [""])
    return Write(
        begun=_read_time(event["requestReceivedTimestamp"]),
        ended=_read_time(event["stageTimestamp"]),
        agent=event.get("userAgent", ""),
        user=event["user"].get("username", ""),
        verb=event["verb"],
        resource="/".join(part for part in parts if part),
        namespace=reference.get("namespace", ""),
        name=reference.get("name", ""),
        code=event.get("responseStatus", {}).get("code", 0),
        pod=pods[0],
    )


def _read_time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
