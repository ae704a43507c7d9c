"""Whether this replica is ready and whether it is alive; where not, why, in one sentence. Looks, does nothing.

Ready: it knows what there is. Alive: its event loop, its caches and its queue move; a restart can help only with that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

SILENT_SECONDS: Final = 900.0
"""A watch brings a bookmark about every minute, and is opened anew within ten."""
STUCK_SECONDS: Final = 600.0
LATE_SECONDS: Final = 30.0


class Source(NamedTuple):
    """One cache: what it holds, and how it hears of the API server."""

    resource: str
    objects: int
    is_complete: bool
    silent_seconds: float
    trouble: str | None = None
    """Why its last try failed."""


def find_unready(missing: str | None, sources: Iterable[Source]) -> str | None:
    """Why nothing can be decided yet; `missing` is what the start waits for."""
    if missing is not None:
        return missing
    for source in sources:
        if not source.is_complete:
            return f"{source.resource} are not listed yet{_because(source)}"
    return None


def find_illness(sources: Iterable[Source], *, waiting_seconds: float, late_seconds: float) -> str | None:
    """What a restart may heal."""
    if late_seconds > LATE_SECONDS:
        return f"the event loop has not run what was due for {late_seconds:.0f} s"
    if waiting_seconds > STUCK_SECONDS:
        return f"a job has waited for {waiting_seconds:.0f} s to be looked at"
    for source in sources:
        if source.is_complete and source.silent_seconds > SILENT_SECONDS:
            return f"nothing was heard of {source.resource} for {source.silent_seconds:.0f} s{_because(source)}"
    return None


def _because(source: Source) -> str:
    return "" if source.trouble is None else f": {source.trouble}"
