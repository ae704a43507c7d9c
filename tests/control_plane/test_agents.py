"""Agents are asked round and round; silence is no answer, and a stranger's answer is none either."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientSession, web

from finetune_contract import names
from finetune_contract.progress import PreparationProgress, RankHeartbeat
from finetune_operator.clients import agents
from finetune_operator.clients.agents import ASKERS, KEPT_SECONDS, Agents, fetch_answer, make_agent_url
from finetune_operator.clients.pace import REQUESTS_PER_SECOND
from finetune_operator.errors import AgentError
from finetune_operator.snapshot import Key, Pod
from tests.control_plane.make import NOW, make_member, make_progress, make_running_pod, make_step

LOCAL = replace(make_running_pod(), ip="127.0.0.1")


class Talk:
    """One agent that answers what it is told to, and the round that asks it."""

    def __init__(self) -> None:
        self.answer: str | None = make_progress().to_json()
        self.asked = 0
        self.pod: Pod | None = LOCAL
        self.changes: list[Pod] = []
        self.moves: list[Pod] = []
        self.silences: list[Pod] = []
        self.results: list[str] = []
        self.port = 0
        self.agents = Agents(self._find, self.changes.append)

    async def until(self, look: Callable[[], bool]) -> None:
        await until(look)

    async def until_asked_again(self) -> None:
        """Until an answer that was given after this call has been heard."""
        asked = self.asked
        await self.until(lambda: self.asked >= asked + 2)

    def _find(self, key: Key) -> Pod | None:
        return self.pod if key == LOCAL.key else None


@asynccontextmanager
async def talking(interval: float = 0.01, fresh: float = 0.0) -> AsyncIterator[Talk]:
    talk = Talk()

    async def progress(request: web.Request) -> web.Response:
        talk.asked += 1
        return web.Response(text=talk.answer, status=200 if talk.answer else 500)

    application = web.Application()
    application.router.add_get(names.PATH_PROGRESS, progress)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    talk.port = runner.addresses[0][1]
    talk.agents = Agents(
        talk._find,
        talk.changes.append,
        on_figures=talk.moves.append,
        on_silence=talk.silences.append,
        count=talk.results.append,
        port=talk.port,
        interval=interval,
        fresh=fresh,
    )
    task = asyncio.create_task(talk.agents.run())
    try:
        yield talk
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await runner.cleanup()


async def test_silent_agents_wait_for_each_other_and_nobody_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async with talking() as talk:
        silent = [replace(LOCAL, key=Key("ml", f"silent-{number}"), ip="") for number in range(3 * ASKERS)]
        pods = {pod.key: pod for pod in (*silent, LOCAL)}
        monkeypatch.setattr(talk.agents, "_find_pod", pods.get)

        async def ask(session: ClientSession, url: str) -> bytes:
            if url == make_agent_url("", talk.port):
                refused.add(url)
                await hung.wait()
            return await fetch_answer(session, url)

        refused: set[str] = set()
        hung = asyncio.Event()
        monkeypatch.setattr(agents, "fetch_answer", ask)
        for key in pods:
            talk.agents._silent.add(key)
            talk.agents.ask(key)
        await talk.until(lambda: refused != set())
        talk.agents._silent.discard(LOCAL.key)
        talk.agents.ask(LOCAL.key)
        await talk.until_asked_again()
        hung.set()


async def test_answer_that_cannot_be_handled_does_not_end_the_round(monkeypatch: pytest.MonkeyPatch) -> None:
    async with talking() as talk:
        faults = [RuntimeError("a defect")]

        async def ask(session: ClientSession, url: str) -> bytes:
            if faults:
                raise faults.pop()
            return await fetch_answer(session, url)

        monkeypatch.setattr(agents, "fetch_answer", ask)
        talk.agents.ask(LOCAL.key)
        await talk.until_asked_again()


class Line:
    """An agent that would keep every connection, and how many of them were opened and closed."""

    def __init__(self) -> None:
        self.opened = self.closed = self.asked = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.asked += 1
                text = make_progress().to_json().encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))
        self.closed += 1
        writer.close()


@asynccontextmanager
async def hold_line(interval: float, pods: tuple[Pod, ...] = (LOCAL,)) -> AsyncIterator[Line]:
    line = Line()
    server = await asyncio.start_server(line.answer, "127.0.0.1", 0)
    by_key = {pod.key: pod for pod in pods}
    asking = Agents(by_key.get, lambda pod: None, port=server.sockets[0].getsockname()[1], interval=interval)
    round_ = asyncio.create_task(asking.run())
    for key in by_key:
        asking.ask(key)
    try:
        yield line
    finally:
        round_.cancel()
        await asyncio.gather(round_, return_exceptions=True)
        server.close()


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not look():
            await asyncio.sleep(0.002)


async def test_connection_is_closed_where_the_next_question_may_be_far_even_if_the_agent_would_keep_it() -> None:
    async with hold_line(interval=2 * KEPT_SECONDS) as line:
        await until(lambda: line.closed == 1)


async def test_connection_of_an_agent_that_is_asked_again_soon_stays_open() -> None:
    async with hold_line(interval=0.01) as line:
        await until(lambda: line.asked >= 5)
        assert line.opened - line.closed == 1
        assert line.opened == 2, "the first question knew of no second"


async def test_no_more_connections_stay_open_than_are_worth_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "KEPT", 1)
    others = tuple(replace(LOCAL, key=Key("ml", f"other-{number}")) for number in range(2))
    async with hold_line(interval=0.01, pods=(LOCAL, *others)) as line:
        await until(lambda: line.asked >= 30 and line.opened - line.closed == 1)
        assert line.closed > 10


def test_address_of_an_agent() -> None:
    assert make_agent_url("10.0.0.1", 8080) == "http://10.0.0.1:8080/progress"
    assert make_agent_url("fd00::1", 8080) == "http://[fd00::1]:8080/progress"


async def test_agent_is_asked_again_and_again_but_only_news_wake_the_job() -> None:
    async with talking() as talk:
        talk.agents.ask(LOCAL.key)
        await talk.until(lambda: len(talk.changes) == 1)
        heartbeat = RankHeartbeat(rank=0, phase="training", step=6, at=NOW)
        preparation = PreparationProgress(stage="read", done=1, total=2)
        figures: list[dict[str, Any]] = [
            {"step": make_step(6, first_step_at=None)},
            {"ranks": (heartbeat,), "at": NOW},
            {"metrics": {"f1": 0.5}},
        ]
        for facts in figures:
            talk.answer = make_progress(**facts).to_json()
            await talk.until_asked_again()
        assert (len(talk.changes), len(talk.moves)) == (1, len(figures))
        talk.answer = make_progress(phase="Finalizing").to_json()
        await talk.until(lambda: len(talk.changes) == 2)
        talk.answer = make_progress(phase="Finalizing", preparation=preparation).to_json()
        await talk.until(lambda: len(talk.changes) == 3)


async def test_sign_of_life_alone_is_told_nobody() -> None:
    async with talking() as talk:
        heartbeat = RankHeartbeat(rank=0, phase="forward", step=6, at=NOW)
        talk.answer = make_progress(ranks=(heartbeat,)).to_json()
        talk.agents.ask(LOCAL.key)
        await talk.until(lambda: talk.changes != [])
        alive = heartbeat.model_copy(update={"phase": "backward", "at": NOW + 1})
        talk.answer = make_progress(ranks=(alive,), at=NOW + 1).to_json()
        await talk.until_asked_again()
        answer = talk.agents.get(LOCAL.key)
        assert answer is not None
        assert answer.progress.ranks == (alive,)
        assert (len(talk.changes), talk.moves) == (1, [])


async def test_agent_with_news_is_asked_at_once_however_slow_the_round_is() -> None:
    async with talking(interval=3600) as talk:
        talk.agents.ask(LOCAL.key)
        await talk.until(lambda: len(talk.changes) == 1)
        talk.answer = make_progress(phase="Finalizing").to_json()
        talk.agents.ask(LOCAL.key)
        await talk.until(lambda: len(talk.changes) == 2)
        assert talk.asked == 2


async def test_agent_answers_until_a_question_fails() -> None:
    async with talking(interval=3600) as talk:
        talk.agents.ask(LOCAL.key)
        await talk.until(lambda: len(talk.changes) == 1)
        first = talk.agents.get(LOCAL.key)
        assert first is not None
        assert first.heard == math.inf
        talk.answer = None
        asked = time.time()
        talk.agents.ask(LOCAL.key)
        await talk.until(lambda: talk.results == ["answered", "silent"])
        silent = talk.agents.get(LOCAL.key)
        assert silent is not None
        assert asked <= silent.heard <= time.time()
        assert talk.silences == [LOCAL]
        talk.agents.ask(LOCAL.key)
        await talk.until(lambda: talk.results == ["answered", "silent", "silent"])
        assert talk.agents.get(LOCAL.key) == silent
        assert talk.silences == [LOCAL], "told once"


async def test_news_are_dated_and_figures_are_none() -> None:
    async with talking() as talk:
        talk.agents.ask(LOCAL.key)
        await talk.until(lambda: len(talk.changes) == 1)
        first = talk.agents.get(LOCAL.key)
        talk.answer = make_progress(metrics={"f1": 0.5}).to_json()
        await talk.until(lambda: len(talk.moves) == 1)
        figures = talk.agents.get(LOCAL.key)
        talk.answer = make_progress(phase="Evaluating").to_json()
        await talk.until(lambda: len(talk.changes) == 2)
        news = talk.agents.get(LOCAL.key)
        assert first is not None
        assert figures is not None
        assert news is not None
        assert first.told == figures.told < news.told


async def test_agent_that_is_asked_out_of_turn_answers_before_anybody_goes_on() -> None:
    async with talking(interval=3600) as talk:
        talk.answer = make_progress(step=make_step(6)).to_json()
        await talk.agents.refresh(LOCAL.key)
        assert talk.asked == 0, "it was never heard: nobody waits for it"
        talk.agents.ask(LOCAL.key)
        await talk.until(lambda: talk.agents.get(LOCAL.key) is not None)
        talk.answer = make_progress(step=make_step(7)).to_json()
        await talk.agents.refresh(LOCAL.key)
        answer = talk.agents.get(LOCAL.key)
        assert answer is not None
        assert (answer.progress.step.step, talk.moves, len(talk.changes)) == (7, [], 1)
        talk.answer = make_progress(phase="Evaluating").to_json()
        await talk.agents.refresh(LOCAL.key)
        assert len(talk.changes) == 2


async def test_agent_that_answered_just_now_is_not_asked_again() -> None:
    async with talking(interval=3600, fresh=3600) as talk:
        talk.agents.ask(LOCAL.key)
        await talk.until(lambda: talk.agents.get(LOCAL.key) is not None)
        await talk.agents.refresh(LOCAL.key)
        assert talk.asked == 1


async def test_agent_that_was_asked_out_of_turn_has_its_turn_later() -> None:
    async with talking(interval=0.3) as talk:
        talk.agents.ask(LOCAL.key)
        await talk.until(lambda: talk.agents.get(LOCAL.key) is not None)
        began = time.monotonic()
        while time.monotonic() < began + 1.0:
            asked = talk.asked
            await talk.agents.refresh(LOCAL.key)
            assert talk.asked == asked + 1, "nobody asks beside"
            await asyncio.sleep(0.02)


async def test_agent_that_foresees_something_is_asked_when_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REQUESTS_PER_SECOND, "training", 1e-6)
    async with talking() as talk:
        talk.pod = replace(make_member(), ip=LOCAL.ip)
        talk.answer = make_progress(at=NOW, quiet_until=NOW + 1.0).to_json()
        talk.agents.ask(LOCAL.key)
        await talk.until(lambda: talk.asked == 1)
        began = time.monotonic()
        await talk.until(lambda: talk.asked == 2)
        assert time.monotonic() - began > 0.5


async def test_agent_that_changes_its_mind_out_of_turn_is_asked_when_it_says_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(REQUESTS_PER_SECOND, "training", 1e-6)
    async with talking() as talk:
        talk.pod = replace(make_member(), ip=LOCAL.ip)
        talk.answer = make_progress(at=NOW, quiet_until=NOW + 3600.0).to_json()
        talk.agents.ask(LOCAL.key)
        await talk.until(lambda: talk.agents.get(LOCAL.key) is not None)
        talk.answer = make_progress(at=NOW, quiet_until=NOW + 0.1).to_json()
        await talk.agents.refresh(LOCAL.key)
        await talk.until(lambda: talk.asked >= 4)
        assert not talk.moves, "when something is expected is no figure"


async def test_agent_that_is_silent_keeps_nobody_waiting() -> None:
    async with talking(interval=3600) as talk:
        talk.agents.ask(LOCAL.key)
        await talk.until(lambda: talk.agents.get(LOCAL.key) is not None)
        talk.answer = None
        await talk.agents.refresh(LOCAL.key)
        asked = talk.asked
        await talk.agents.refresh(LOCAL.key)
        assert (talk.asked, talk.results[-1]) == (asked, "silent")


async def test_answer_is_dated_by_its_phase() -> None:
    async with talking() as talk:
        talk.agents.ask(LOCAL.key)
        await talk.until(lambda: talk.agents.get(LOCAL.key) is not None)
        first = talk.agents.get(LOCAL.key)
        await talk.until_asked_again()
        again = talk.agents.get(LOCAL.key)
        assert first is not None
        assert again is not None
        assert again.since == first.since
        talk.answer = make_progress(phase="Publishing").to_json()
        await talk.until(lambda: len(talk.changes) == 2)
        later = talk.agents.get(LOCAL.key)
        assert later is not None
        assert later.since > first.since


@pytest.mark.parametrize("stranger", [{"job_uid": "other"}, {"node": 1}, {"role": "prepare"}])
async def test_answer_of_a_stranger_at_the_same_address_is_not_heard(stranger: dict[str, Any]) -> None:
    async with talking() as talk:
        talk.answer = make_progress(**stranger).to_json()
        talk.agents.ask(LOCAL.key)
        await talk.until_asked_again()
        assert talk.agents.get(LOCAL.key) is None


async def test_silence_keeps_the_last_answer() -> None:
    async with talking() as talk:
        talk.agents.ask(LOCAL.key)
        await talk.until(lambda: talk.agents.get(LOCAL.key) is not None)
        for silence in (None, "not json", '{"unknown": 1}'):
            talk.answer = silence
            await talk.until_asked_again()
        answer = talk.agents.get(LOCAL.key)
        assert answer is not None
        assert answer.progress == make_progress()


async def test_pod_that_needs_no_asking_is_left_alone_and_a_gone_one_forgotten() -> None:
    async with talking() as talk:
        talk.agents.ask(LOCAL.key)
        await talk.until(lambda: talk.agents.get(LOCAL.key) is not None)
        talk.pod = None
        talk.agents.ask(LOCAL.key)
        other = Key("ml", "other")
        talk.agents.ask(other)
        await talk.until(lambda: len(talk.agents._queue) == 0)
        talk.agents.forget(LOCAL.key)
        assert talk.agents.get(LOCAL.key) is None


async def test_agent_that_cannot_be_reached_is_an_error() -> None:
    async with ClientSession() as session:
        with pytest.raises(AgentError, match="did not answer as agreed"):
            await fetch_answer(session, "http://127.0.0.1:1/progress")
