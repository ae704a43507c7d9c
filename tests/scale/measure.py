"""The measurements: so many jobs in a world of their own, from apply to the end, and what all of it cost.

Figures only; which of them is good enough stands in tests/scale/__main__.py.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.contract.server import JOBS
from tests.control_plane.kubelet import Operator
from tests.ground import audit
from tests.scale.account import Memory, read_cpu, read_memory, subtract
from tests.scale.api import Api
from tests.scale.sight import Sight, find_lags, find_number_lags
from tests.scale.words import HOLD, MOVE, RUN
from tests.scale.world import World, make_job, run_world

Tell = Callable[[str, int, int], None]
"""What is being done, how far, of how many."""
OPERATOR = "finetune-operator"
"""In the operator's user agent."""
APPLIERS = 32
PATIENCE_SECONDS = 1800.0
SETTLE_SECONDS = 30.0
FORESEEN_SECONDS = 60.0
"""So long before a checkpoint its job knows when it will be; an agent is asked more often than that."""


def be_quiet(what: str, done: int, total: int) -> None:
    """Tell nothing."""


@dataclass
class Stage:
    """One stretch of time of a run."""

    seconds: float
    cpu: dict[str, float]
    """CPU seconds of every process."""


@dataclass
class Figures:
    """One run."""

    jobs: int
    nodes: int
    stages: dict[str, Stage] = field(default_factory=dict)
    memory: dict[str, Memory] = field(default_factory=dict)
    """Of the operator: settled, restarted."""
    writes: dict[str, dict[str, int]] = field(default_factory=dict)
    """Stage -> the operator's writes, "verb resource" -> number."""
    reads: dict[str, int] = field(default_factory=dict)
    ready_seconds: float = 0.0
    """Restart: process start to /readyz."""
    work_seconds: float = 0.0
    """Restart: process start to the first round through all agents."""
    lags: dict[str, list[float]] = field(default_factory=dict)
    asked: int = 0
    """Requests that the agents answered, in all."""


class Run:
    """A world with an operator, its jobs, and the figures."""

    def __init__(self, world: World, api: Api, sight: Sight, figures: Figures, tell: Tell) -> None:
        self.world, self.api, self.sight, self.figures, self.tell = world, api, sight, figures, tell

    @property
    def pods(self) -> int:
        """Trainer pods of all jobs."""
        return self.figures.jobs * self.figures.nodes

    async def apply(self, script: str) -> None:
        """Apply all jobs at once; wait until all pods are created, then until all run."""
        figures = self.figures
        jobs = [
            make_job(f"job-{number:05}", script, figures.nodes, data={"prepare": "inline"})
            for number in range(figures.jobs)
        ]
        async with self.stage("apply -> pods created"):
            applying = asyncio.ensure_future(self._create(jobs))
            while (there := await self._count_pods()) < self.pods:
                self.tell("pods created", there, self.pods)
                if applying.done():
                    applying.result()
                self._check_operators()
                await asyncio.sleep(0.25)
            await applying
        if script != RUN:
            async with self.stage("pods created -> all train"):
                await self._await_phase("jobs train", "Running")

    async def settle(self, seconds: float = SETTLE_SECONDS) -> None:
        """Let everything come to rest; what it costs to stand still."""
        async with self.stage("standing still"):
            await self._rest("standing still", seconds)
        (operator,) = self.world.operators.values()
        self.figures.memory["settled"] = read_memory(operator.process.pid)

    async def await_end(self) -> None:
        """Wait until all jobs have succeeded and all pods have ended."""
        async with self.stage("-> all succeeded"):
            await self._await_phase("jobs succeeded", "Succeeded")
            while (await self.read_journal())["pods"]:
                await asyncio.sleep(0.25)

    async def speak(self, words_per_second: float) -> None:
        """Have every job say a checkpoint, and one in ten fail, one after the other in an order of no meaning."""
        names = [f"job-{number:05}" for number in range(self.figures.jobs)]
        random.Random(5).shuffle(names)
        wishes = [("checkpoint", name) for name in names] + [("fail", name) for name in names[: len(names) // 10]]
        random.Random(6).shuffle(wishes)
        begun = time.monotonic() + FORESEEN_SECONDS
        foreseeing = asyncio.ensure_future(self._foresee(wishes, words_per_second, begun))
        await self._spread(wishes, words_per_second, begun)
        await foreseeing

    async def finish(self, words_per_second: float) -> None:
        """Have every job tell its outcome, one after the other; one that is between two attempts does so later."""
        left = [("finish", f"job-{number:05}") for number in range(self.figures.jobs)]
        while left:
            left = await self._spread(left, words_per_second)
            await asyncio.sleep(1.0)

    async def count_lags(self, since: float, ending: float) -> None:
        """How late everything was seen that was said since then; figures also while jobs were ending."""
        said = [each for each in (await self.read_journal())["said"] if each[3] >= since]
        views = self.sight.views.values()
        self.figures.lags = {
            **find_lags(self.sight.views, said),
            "numbers": find_number_lags(views, since, until=ending),
            "numbers while jobs end": find_number_lags(views, ending),
        }

    async def restart(self) -> None:
        """Another operator comes up although nothing has changed."""
        since = time.time()
        asked = (await self.read_journal())["asked"]
        async with AsyncExitStack() as stack, self.stage("restart"):
            operator = stack.enter_context(self.world.run_operator("second"))
            self.figures.ready_seconds = await await_ready(operator) - since
            while (heard := (await self.read_journal())["asked"] - asked) < self.pods:
                self.tell("agents asked again", heard, self.pods)
                self._check_operators()
                await asyncio.sleep(0.25)
            self.figures.work_seconds = time.time() - since
            await self._rest("standing still again", SETTLE_SECONDS)
            self.figures.memory["restarted"] = read_memory(operator.process.pid)
            self.figures.writes["restart"] = self.count_writes(since)
            self.figures.reads = read_calls(operator)

    def count_writes(self, since: float) -> dict[str, int]:
        """The operator's writes, leases apart."""
        writes = audit.read_writes(self.world.folder, agent=OPERATOR, since=since)
        return dict(Counter(f"{each.verb} {each.resource}" for each in writes if each.resource != "leases"))

    def count_calls(self) -> int:
        """Requests to the API server by all operators that run, leases and watches too."""
        return sum(count for each in self.world.operators.values() for count in read_calls(each).values())

    async def read_journal(self) -> dict[str, Any]:
        """What the stand-ins say of themselves."""
        return await self._ask_agents("/journal")

    async def _foresee(self, wishes: list[tuple[str, str]], words_per_second: float, begun: float) -> None:
        """Have jobs know of their next checkpoint some time before, as those know that save every so many steps."""
        for number, (what, name) in enumerate(wishes):
            due = begun + number / words_per_second
            await asyncio.sleep(due - FORESEEN_SECONDS - time.monotonic())
            if what == "checkpoint":
                await self._ask_agents("/foresee", {"seconds": due - time.monotonic(), "jobs": [name]})

    async def _spread(
        self, wishes: list[tuple[str, str]], words_per_second: float, begun: float | None = None
    ) -> list[tuple[str, str]]:
        """Have words said at even distances from `begun` (now); returns those that nobody could say."""
        begun, unsaid = time.monotonic() if begun is None else begun, []
        for number, (what, name) in enumerate(wishes):
            self.tell("words said", number + 1, len(wishes))
            await asyncio.sleep(max(0.0, begun + number / words_per_second - time.monotonic()))
            answer = await self._ask_agents("/say", {"say": what, "jobs": [name]})
            unsaid += [(what, name)] if not answer["said"] else []
        return unsaid

    async def _ask_agents(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.world.agent_port}{path}"
        request = urllib.request.Request(url, json.dumps(body).encode() if body is not None else None)

        def ask() -> dict[str, Any]:
            with urllib.request.urlopen(request, timeout=60) as answer:
                found: dict[str, Any] = json.load(answer)
                return found

        return await asyncio.to_thread(ask)

    async def _rest(self, what: str, seconds: float) -> None:
        for second in range(int(seconds)):
            self.tell(what, second, int(seconds))
            self._check_operators()
            await asyncio.sleep(1)

    async def _await_phase(self, what: str, phase: str) -> None:
        def look(there: int) -> None:
            self._check_operators()
            self.tell(what, there, self.figures.jobs)

        await self.sight.await_phase(self.figures.jobs, phase, seconds=PATIENCE_SECONDS, tell=look)

    def _check_operators(self) -> None:
        for name, operator in self.world.operators.items():
            if operator.process.poll() is not None:
                raise AssertionError(f"operator {name} has ended; its log ends:\n{operator.log.read_text()[-2000:]}")

    async def _create(self, jobs: list[dict[str, Any]]) -> None:
        left = iter(jobs)

        async def create() -> None:
            for job in left:
                await self.api.request("POST", JOBS, job)

        await asyncio.gather(*(create() for _ in range(APPLIERS)))

    async def _count_pods(self) -> int:
        page = await self.api.request("GET", "/api/v1/pods?limit=1")
        return len(page["items"]) + int(page["metadata"].get("remainingItemCount", 0))

    @asynccontextmanager
    async def stage(self, name: str) -> AsyncIterator[None]:
        begun, before = time.monotonic(), read_cpu(self.world.list_pids())
        yield
        after = read_cpu(self.world.list_pids())
        self.figures.stages[name] = Stage(round(time.monotonic() - begun, 2), subtract(after, before))


async def measure_rate(jobs: int, nodes: int, tell: Tell = be_quiet) -> Figures:
    """Jobs that are applied at once, until all their pods are created."""
    async with open_run(jobs, nodes, tell) as run:
        with run.world.run_operator("first") as operator:
            await await_ready(operator)
            await run.apply(HOLD)
            run.figures.memory["settled"] = read_memory(operator.process.pid)
        return run.figures


async def measure_growth(jobs: int, nodes: int, tell: Tell = be_quiet) -> Figures:
    """Jobs that train and say the same for ever: apply, rest, and a restart without anything new."""
    async with open_run(jobs, nodes, tell) as run:
        begun = time.time()
        with run.world.run_operator("first") as operator:
            await await_ready(operator)
            await run.apply(HOLD)
            await run.settle()
            run.figures.writes["apply"] = run.count_writes(begun)
        await run.restart()
        run.figures.asked = (await run.read_journal())["asked"]
        return run.figures


async def measure_lag(jobs: int, nodes: int, words_per_second: float, tell: Tell = be_quiet) -> Figures:
    """Jobs that move: everything that they say, and when it is seen."""
    async with open_run(jobs, nodes, tell) as run:
        with run.world.run_operator("first") as operator:
            await await_ready(operator)
            await run.apply(MOVE)
            await run.settle()
            since = time.time() + FORESEEN_SECONDS
            async with run.stage("words"):
                await run.speak(words_per_second)
                await asyncio.sleep(40.0)
                ending = time.time()
                await run.finish(words_per_second)
            await run.await_end()
            await run.count_lags(since, ending)
            run.figures.asked = (await run.read_journal())["asked"]
        return run.figures


async def measure_course(jobs: int, nodes: int, tell: Tell = be_quiet) -> Figures:
    """Jobs from apply to Succeeded, word by word."""
    async with open_run(jobs, nodes, tell) as run:
        begun = time.time()
        with run.world.run_operator("first") as operator:
            await await_ready(operator)
            await run.apply(RUN)
            await run.await_end()
            run.figures.memory["settled"] = read_memory(operator.process.pid)
            run.figures.writes["course"] = run.count_writes(begun)
            run.figures.reads = read_calls(operator)
            run.figures.asked = (await run.read_journal())["asked"]
        return run.figures


@asynccontextmanager
async def open_run(jobs: int, nodes: int, tell: Tell = be_quiet) -> AsyncIterator[Run]:
    tell("a world comes up", 0, 1)
    with run_world() as world:
        api = Api(world.server.kubeconfig, "scale-user")
        sight = Sight(api)
        looking = asyncio.create_task(sight.follow())
        try:
            yield Run(world, api, sight, Figures(jobs, nodes), tell)
            if looking.done():
                looking.result()
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            await api.close()


async def await_ready(operator: Operator, seconds: float = 120.0) -> float:
    """When the operator's probe said that it is ready."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(_is_ready, operator):
        if time.monotonic() > deadline or operator.process.poll() is not None:
            raise AssertionError(f"the operator is not ready; its log ends:\n{operator.log.read_text()[-2000:]}")
        await asyncio.sleep(0.05)
    return time.time()


def _is_ready(operator: Operator) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{operator.probe_port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def read_calls(operator: Operator) -> dict[str, int]:
    """Requests to the API server by method, as the operator counts them itself."""
    calls: Counter[str] = Counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{operator.metrics_port}/metrics", timeout=30) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith("rest_client_requests_total{"):
                calls[line.split('method="')[1].split('"')[0]] += int(float(line.rsplit(" ", 1)[1]))
    return dict(calls)
