"""The work queue keeps client-go's promises."""

from __future__ import annotations

import asyncio

from finetune_operator.clients.queue import BACKOFF_FIRST_SECONDS, BACKOFF_LAST_SECONDS, WorkQueue


class Counts:
    def __init__(self) -> None:
        self.events: list[str] = []

    def added(self, depth: int) -> None:
        self.events.append(f"added {depth}")

    def taken(self, depth: int, waited: float) -> None:
        self.events.append(f"taken {depth}")

    def retried(self) -> None:
        self.events.append("retried")


async def take(queue: WorkQueue[str]) -> str | None:
    return await asyncio.wait_for(queue.get(), 5)


async def test_key_that_is_added_twice_is_handled_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.add("a")
    queue.add("b")
    assert [await take(queue), await take(queue), len(queue)] == ["a", "b", 0]


async def test_key_that_is_in_a_hurry_goes_before_those_that_wait() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.add("b", first=True)
    assert [await take(queue), await take(queue), len(queue)] == ["b", "a", 0]


async def test_key_that_waits_changes_its_lane_when_it_is_in_a_hurry() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in ("a", "b", "c"):
        queue.add(key)
    queue.add("c", first=True)
    queue.add("b", first=True)
    assert [await take(queue), await take(queue), await take(queue), len(queue)] == ["c", "b", "a", 0]


async def test_keys_without_hurry_leave_room_for_those_with() -> None:
    queue: WorkQueue[str] = WorkQueue(patient=2)
    for key in ("a", "b", "c"):
        queue.add(key)
    assert [await take(queue), await take(queue)] == ["a", "b"]
    third = asyncio.ensure_future(take(queue))
    await asyncio.sleep(0)
    assert not third.done(), "two are under way"
    queue.add("d", first=True)
    assert await third == "d"
    fourth = asyncio.ensure_future(take(queue))
    await asyncio.sleep(0)
    queue.done("d")
    await asyncio.sleep(0)
    assert not fourth.done(), "d was none of the two"
    queue.done("a")
    assert await fourth == "c"


async def test_hurry_is_over_once_the_key_was_taken() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a", first=True)
    await take(queue)
    queue.done("a")
    queue.add("b")
    queue.add("a")
    assert [await take(queue), await take(queue)] == ["b", "a"]


async def test_key_that_hurries_while_it_is_worked_on_goes_first_afterwards() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await take(queue)
    queue.add("b")
    queue.add("a", first=True)
    queue.done("a")
    assert [await take(queue), await take(queue)] == ["a", "b"]


async def test_key_is_never_handled_twice_at_a_time() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await take(queue)
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await take(queue) == "a"


async def test_key_that_is_done_and_unchanged_rests() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await take(queue)
    queue.done("a")
    assert len(queue) == 0


async def test_getter_waits_for_a_key() -> None:
    queue: WorkQueue[str] = WorkQueue()
    getter = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not getter.done()
    queue.add("a")
    assert await getter == "a"


async def test_of_several_delays_the_earliest_counts() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 3600)
    queue.add_after("a", 0)
    queue.add_after("a", 3600)
    assert await take(queue) == "a"


async def test_delay_without_hurry_does_not_stand_in_for_one_with() -> None:
    queue: WorkQueue[str] = WorkQueue(patient=1)
    queue.add("busy")
    assert (await take(queue), queue.is_patient("busy")) == ("busy", True)
    queue.add_after("a", 0)
    queue.add_after("a", 0, first=True)
    assert (await take(queue), queue.is_patient("a")) == ("a", False)


async def test_error_of_a_key_is_mended_in_a_hurry() -> None:
    queue: WorkQueue[str] = WorkQueue(patient=0)
    queue.add("never taken")
    queue.retry("a")
    assert await take(queue) == "a"


async def test_dropped_key_is_not_woken() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 0)
    queue.add_after("a", 0, first=True)
    queue.drop("a")
    queue.drop("never seen")
    queue.add_after("b", 0)
    assert await take(queue) == "b"


async def test_errors_are_retried_later_each_time_until_forgotten() -> None:
    queue: WorkQueue[str] = WorkQueue()
    first = queue.retry("a")
    later = [queue.retry("a") for _ in range(30)]
    assert first <= BACKOFF_FIRST_SECONDS
    assert BACKOFF_LAST_SECONDS / 2 <= later[-1] <= BACKOFF_LAST_SECONDS
    queue.forget("a")
    assert queue.retry("a") <= BACKOFF_FIRST_SECONDS


async def test_closed_queue_hands_nothing_out() -> None:
    queue: WorkQueue[str] = WorkQueue()
    getter = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.close()
    queue.add("a")
    assert await getter is None
    assert await take(queue) is None


async def test_observer_is_told() -> None:
    counts = Counts()
    queue: WorkQueue[str] = WorkQueue(counts)
    queue.add("a")
    await take(queue)
    queue.retry("a")
    assert counts.events == ["added 1", "taken 0", "retried"]


async def test_age_of_the_oldest_key_is_known() -> None:
    queue: WorkQueue[str] = WorkQueue()
    assert queue.oldest_seconds <= 0.0
    queue.add("a")
    await asyncio.sleep(0.01)
    assert queue.oldest_seconds > 0.0
