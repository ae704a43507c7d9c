"""`python -m tests.scale.agents`: one HTTP server that answers as the agent of every pod kwok plays.

Which pod is asked shows in the address that was dialled: all of 127.0.0.0/8 is this machine. The pods are learned from
a watch, and so is what the operator tells them (attempt, stop, finish). Readiness is set as the kubelet's probe would
set it, up to a second late. On 127.0.0.1 the same port listens to the one who measures:

    POST /say      {"say": "checkpoint" | "fail" | "finish" | "hold" | "move", "jobs": ["name", ...]}
    POST /foresee  {"seconds": until the checkpoint that will be said, "jobs": ["name", ...]}
    GET  /journal  {"said": [[job, what, value, when], ...], "asked": n, "pods": n, "attempts": n}

A plain asyncio protocol and no web framework: the machine is shared with what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_contract import names
from finetune_contract.attempt import Attempt, StopRequest
from tests.scale.api import STRATEGIC_MERGE, Api
from tests.scale.words import PREPARE, RUN, SCRIPT, Course, Identity, speak

PODS = "/api/v1/pods"
SELECTOR = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"
PROBE_SECONDS = 1.0
"""The readiness probe's period."""
PAUSE_SECONDS = 0.05
"""Between a word that was heard and the next one."""


@dataclass
class StandIn:
    """One agent."""

    who: Identity
    path: str
    """Of its pod."""
    job: str
    ready: bool = True
    told: tuple[str | None, str | None] = (None, None)
    """The annotations attempt and stop."""
    spoken: tuple[Any, bytes] = (None, b"")
    """What it said last, and of which moment of the course."""


class Agents:
    """All agents of one API server."""

    def __init__(self, api: Api, clock: Callable[[], float] = time.time) -> None:
        self._api, self._clock = api, clock
        self._by_ip: dict[str, StandIn] = {}
        self._members: dict[str, dict[str, StandIn]] = {}
        """uid of the job -> address -> agent."""
        self._ip_of: dict[str, str] = {}
        self._courses: dict[str, Course] = {}
        """By uid of the job: its trainers'."""
        self._preparations: dict[str, Course] = {}
        """By uid of the job: its prepare pod's."""
        self._uids: dict[str, str] = {}
        """Job -> uid."""
        self._said: list[tuple[str, str, Any, float]] = []
        self._asked = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def follow(self) -> None:
        """Learn of pods, for ever."""
        async for type_, pod in self._api.follow(PODS, SELECTOR):
            self._see(type_, pod)

    def answer(self, ip: str, path: str) -> tuple[int, bytes]:
        """What the agent at this address says."""
        agent = self._by_ip.get(ip)
        if agent is None:
            return 404, b"no agent here\n"
        course = self._find_course(agent)
        if path == names.PATH_READY:
            return (503 if self._has_news(agent, course) else 200), course.phase.encode()
        if path == names.PATH_METRICS:
            return 200, _render(agent, course, self._clock())
        if path != names.PATH_PROGRESS:
            return 404, b"not here\n"
        self._asked += 1
        text = self._speak(agent, course)
        if agent.who.node == 0:
            asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._go_on, agent.job, course, course.word)
        return 200, text

    def say(self, what: str, jobs: list[str]) -> int:
        """Have jobs say something new; returns how many could."""
        return sum(self._say(what, job) for job in jobs)

    def foresee(self, seconds: float, jobs: list[str]) -> None:
        """Jobs know that they save in so many seconds, more or less."""
        for course in filter(None, (self._courses.get(self._uids.get(job, "")) for job in jobs)):
            course.saves_at, course.misjudged = self._clock() + seconds, random.uniform(0.9, 1.1)

    def tell_journal(self) -> dict[str, Any]:
        """What was said when, and what was asked."""
        following = sum(course.attempt > 0 for course in self._courses.values())
        return {"said": self._said, "asked": self._asked, "pods": len(self._by_ip), "attempts": following}

    def _say(self, what: str, job: str) -> bool:
        course = self._courses.get(self._uids.get(job, ""))
        if course is None or course.phase != "Training":
            return False
        now = self._clock()
        if what == "checkpoint":
            self._note(job, what, course.add_checkpoint(now))
        elif what == "fail":
            course.failed_node = 1
            self._note(job, what, course.attempt)
        elif what == "finish":
            course.finished = True
            self._note(job, "phase", "Finished")
        else:
            course.script = what
        self._refresh_readiness(job)
        return True

    def _go_on(self, job: str, course: Course, word: int) -> None:
        """The first agent was heard: the next word, unless it is said already."""
        if course.word != word or not course.hear(self._clock()):
            return
        self._note(job, "phase", course.phase)
        if course.has_news:
            self._refresh_readiness(job)

    def _note(self, job: str, what: str, value: Any) -> None:
        self._said.append((job, what, value, self._clock()))

    def _see(self, type_: str, pod: dict[str, Any]) -> None:
        metadata, status = pod["metadata"], pod.get("status", {})
        uid, ip = metadata["uid"], status.get("podIP")
        if type_ == "DELETED" or status.get("phase") in ("Succeeded", "Failed"):
            gone = self._by_ip.pop(self._ip_of.pop(uid, ""), None)
            if gone is not None:
                self._members[gone.who.job_uid].pop(gone.path, None)
            return
        if ip is None or status.get("phase") != "Running":
            return
        if uid not in self._ip_of:
            self._ip_of[uid] = ip
            agent = self._by_ip[ip] = self._make(metadata)
            self._members.setdefault(agent.who.job_uid, {})[agent.path] = agent
        annotations = metadata.get("annotations", {})
        told = (annotations.get(names.ANNOTATION_ATTEMPT), annotations.get(names.ANNOTATION_STOP))
        if self._by_ip[ip].told != told:
            self._by_ip[ip].told = told
            self._obey(self._by_ip[ip], *told)

    def _make(self, metadata: dict[str, Any]) -> StandIn:
        labels = metadata["labels"]
        who = Identity(labels[names.LABEL_JOB_UID], int(labels[names.LABEL_NODE_INDEX]), labels[names.LABEL_ROLE])
        job = labels[names.LABEL_JOB]
        self._uids[job] = who.job_uid
        script = metadata.get("annotations", {}).get(SCRIPT, RUN)
        if who.role == names.ROLE_PREPARE:
            self._preparations.setdefault(who.job_uid, Course(PREPARE, attempt=1))
        else:
            is_prepared = who.job_uid in self._preparations
            self._courses.setdefault(who.job_uid, Course(script, is_prepared=is_prepared))
        return StandIn(who, f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}", job)

    def _obey(self, agent: StandIn, attempt: str | None, stop: str | None) -> None:
        """What the annotations say now."""
        course = self._find_course(agent)
        if stop is not None:
            course.stopped = max(course.stopped, StopRequest.from_json(stop).attempt)
        if attempt is not None and (number := Attempt.from_json(attempt).number) > course.attempt:
            course.begin(number, self._clock())
            self._note(agent.job, "attempt", number)
        self._refresh_readiness(agent.job)

    def _has_news(self, agent: StandIn, course: Course) -> bool:
        if course.failed_node is not None:
            return course.failed_node == agent.who.node
        if course.has_stopped:
            return True
        return course.phase == "Finished" and agent.who.node == 0

    def _refresh_readiness(self, job: str) -> None:
        for agent in self._members[self._uids[job]].values():
            course = self._find_course(agent)
            if agent.ready == self._has_news(agent, course):
                agent.ready = not agent.ready
                self._start(self._probe(agent))

    def _find_course(self, agent: StandIn) -> Course:
        courses = self._preparations if agent.who.role == names.ROLE_PREPARE else self._courses
        return courses[agent.who.job_uid]

    def _speak(self, agent: StandIn, course: Course) -> bytes:
        moment = course.tell_moment(self._clock())
        if agent.spoken[0] != moment:
            agent.spoken = (moment, speak(agent.who, course, self._clock()))
        return agent.spoken[1]

    async def _probe(self, agent: StandIn) -> None:
        """The kubelet's probe finds out within its period."""
        await asyncio.sleep(random.uniform(0.0, PROBE_SECONDS))
        if agent.path not in self._members[agent.who.job_uid]:
            return
        ready = str(agent.ready)
        conditions = [{"type": "Ready", "status": ready}, {"type": "ContainersReady", "status": ready}]
        await self._api.request(
            "PATCH", f"{agent.path}/status", {"status": {"conditions": conditions}}, STRATEGIC_MERGE
        )

    def _start(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Connection(asyncio.Protocol):
    """HTTP/1.1 with connections that stay open, as little of it as is needed."""

    def __init__(self, agents: Agents) -> None:
        self._agents, self._buffer, self._ip = agents, b"", ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ip = transport.get_extra_info("sockname")[0]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head, _, headers = self._buffer[:end].partition(b"\r\n")
            length = _read_length(headers)
            if len(self._buffer) < end + 4 + length:
                return
            body, self._buffer = self._buffer[end + 4 : end + 4 + length], self._buffer[end + 4 + length :]
            method, path, _ = head.decode().split(" ", 2)
            code, text = self._answer(method, path, body)
            self._transport.write(
                b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (code, len(text), text)
            )

    def _answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if self._ip != "127.0.0.1":
            return self._agents.answer(self._ip, path)
        if method == "POST" and path == "/say":
            wish = json.loads(body)
            return 200, json.dumps({"said": self._agents.say(wish["say"], wish["jobs"])}).encode()
        if method == "POST" and path == "/foresee":
            wish = json.loads(body)
            self._agents.foresee(wish["seconds"], wish["jobs"])
            return 200, b"{}"
        return 200, json.dumps(self._agents.tell_journal()).encode()


def _read_length(headers: bytes) -> int:
    for line in headers.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _render(agent: StandIn, course: Course, now: float) -> bytes:
    namespace = agent.path.split("/")[4]
    labels = f'namespace="{namespace}",job="{agent.job}",node="{agent.who.node}"'
    series = {"attempt": course.attempt, "step": course.read_step(now), "news": int(course.has_news)}
    lines = [f"# TYPE finetune_{name} gauge\nfinetune_{name}{{{labels}}} {value}\n" for name, value in series.items()]
    return "".join(lines).encode()


async def serve(kubeconfig: Path, port: int) -> None:
    """Answer for ever."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    agents = Agents(Api(kubeconfig, "scale-agents"))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(agents), "0.0.0.0", port, backlog=4096)
    async with server:
        await agents.follow()


def main() -> None:
    """Run until killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.kubeconfig, arguments.port))


if __name__ == "__main__":
    main()
