"""`python -m tests.scale.budget --update`: what a job may cost, as tests/scale/budget.json holds it.

A small world: two jobs of two nodes from apply to Succeeded, one with a prepare pod, whose writes are counted one by
one; then a hundred jobs of four nodes that train, for the calls and the memory of each. Memory is the difference that
the hundred make.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.contract.server import JOBS as JOBS_PATH
from tests.ground import audit
from tests.scale.account import read_memory
from tests.scale.api import Api
from tests.scale.measure import OPERATOR, Run, await_ready, open_run
from tests.scale.words import HOLD, RUN
from tests.scale.world import make_job

JOBS, NODES = 100, 4
REST_SECONDS = 8.0
FIRST_JOBS = {"inline": {"gpus": 0}, "prepare-pod": {"gpus": 8}}
"""Name -> what is special about it."""
FILE = Path(__file__).with_name("budget.json")
GROWTH = 1.2
"""By how much a job may become more expensive without being noticed."""
COLLECTIONS = {
    "finetunejobs": JOBS_PATH,
    "pods": "/api/v1/namespaces/default/pods",
    "configmaps": "/api/v1/namespaces/default/configmaps",
    "events": "/apis/events.k8s.io/v1/namespaces/default/events",
}


@dataclass(frozen=True)
class Budget:
    """What is frozen."""

    writes: dict[str, dict[str, int]]
    """Of a job of two nodes from apply to Succeeded: job -> "verb resource" -> number."""
    calls_a_job: float
    """Requests to the API server for a job of four nodes until it trains, and for standing still."""
    memory_a_job: float
    """KiB."""


@dataclass(frozen=True)
class Observed:
    """What a run cost, and which of its writes left everything as it was."""

    budget: Budget
    idle_writes: list[str]
    """Objects that were written more often than they changed."""


def read_budget() -> Budget:
    """The budget that is checked in."""
    return Budget(**json.loads(FILE.read_text(encoding="utf-8")))


async def observe(jobs: int, nodes: int) -> Observed:
    """Run the small world."""
    async with open_run(jobs, nodes) as run:
        versions: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        watches = [asyncio.create_task(_collect(run.api, resource, versions)) for resource in COLLECTIONS]
        try:
            with run.world.run_operator() as operator:
                await await_ready(operator)
                await _run_first_jobs(run)
                writes = audit.read_writes(run.world.folder)
                before, calls = read_memory(operator.process.pid).now, run.count_calls()
                await run.apply(HOLD)
                await asyncio.sleep(REST_SECONDS)
                after, calls = read_memory(operator.process.pid).now, run.count_calls() - calls
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
    budget = Budget(
        writes={job: _count_writes(writes, job) for job in FIRST_JOBS},
        calls_a_job=round(calls / jobs, 2),
        memory_a_job=round(1024 * (after - before) / jobs, 1),
    )
    return Observed(budget, _find_idle(writes, versions))


async def _run_first_jobs(run: Run) -> None:
    for name, special in FIRST_JOBS.items():
        await run.api.request("POST", JOBS_PATH, make_job(name, RUN, nodes=2, **special))
    await run.sight.await_phase(len(FIRST_JOBS), "Succeeded", seconds=240)
    while (await run.read_journal())["pods"]:
        await asyncio.sleep(0.2)


async def _collect(api: Api, resource: str, versions: dict[tuple[str, str], set[str]]) -> None:
    """Every version of every object, as a watch brings them."""
    async for type_, item in api.follow(COLLECTIONS[resource]):
        if type_ != "DELETED":
            versions[resource, item["metadata"]["name"]].add(item["metadata"]["resourceVersion"])


def _count_writes(writes: list[audit.Write], job: str) -> dict[str, int]:
    """The operator's, to objects that bear the job's name."""
    own = [write for write in writes if OPERATOR in write.agent and write.name.startswith(job)]
    return dict(sorted(Counter(f"{write.verb} {write.resource}" for write in own).items()))


def _find_idle(writes: list[audit.Write], versions: dict[tuple[str, str], set[str]]) -> list[str]:
    """Objects to which more writes succeeded, by whomever, than they have versions, and writes that were refused.

    The API server keeps an object's version where a write changes nothing.
    """
    done: Counter[tuple[str, str]] = Counter()
    for write in writes:
        if write.succeeded and write.verb != "delete" and write.namespace == "default":
            done[write.resource.partition("/")[0], write.name] += 1
    idle = [
        f"{resource}/{name}: {count} writes, {len(versions[resource, name])} versions"
        for (resource, name), count in done.items()
        if resource in COLLECTIONS and count != len(versions[resource, name])
    ]
    refused = [
        f"{write.verb} {write.resource}/{write.name}: {write.code}"
        for write in writes
        if OPERATOR in write.agent and write.resource != "leases" and not write.succeeded
    ]
    return [*idle, *refused]


def main() -> None:
    """Print what a job costs now, and with --update keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write budget.json")
    options = parser.parse_args()
    begun = time.monotonic()
    observed = asyncio.run(observe(JOBS, NODES))
    text = json.dumps(asdict(observed.budget), indent=2) + "\n"
    print(text, *observed.idle_writes, f"{time.monotonic() - begun:.0f} s", sep="\n")
    if options.update:
        FILE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
