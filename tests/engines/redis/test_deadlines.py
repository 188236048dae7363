"""A loop that sleeps until the next thing falls due, while what it knows of that changes."""

from __future__ import annotations

import asyncio

import pytest

from redflow.engines.redis.clock import ServerClock
from redflow.engines.redis.loops.deadlines import Deadline
from tests.support.world import soon


@pytest.fixture
def clock() -> ServerClock:
    clock = ServerClock()
    clock.observe(1_700_000_000_000, clock.mark())
    return clock


async def asleep(deadline: Deadline) -> asyncio.Task[None]:
    """A loop that waits for it, and sleeps by now."""
    waiting = asyncio.ensure_future(deadline.wait())
    for _ in range(3):
        await asyncio.sleep(0)
    return waiting


async def test_nothing_known_yet_means_look_at_once(clock: ServerClock) -> None:
    await asyncio.wait_for(Deadline(clock, 30).wait(), 1)


@pytest.mark.parametrize("first", [None, 60_000])
async def test_an_earlier_time_wakes_it(clock: ServerClock, first: int | None) -> None:
    deadline, loop = Deadline(clock, 30), asyncio.get_running_loop()
    deadline.set(None if first is None else clock.now_ms() + first, loop.time())
    waiting = await asleep(deadline)
    deadline.set(clock.now_ms() + 20, loop.time())
    await soon(waiting.done, "it wakes up")


@pytest.mark.parametrize("later", [None, 60_000])
async def test_a_later_time_is_waited_for(clock: ServerClock, later: int | None) -> None:
    """It is not woken for that; at the former time it looks again, and sleeps on."""
    deadline, loop = Deadline(clock, 0.3), asyncio.get_running_loop()
    began = loop.time()
    deadline.set(clock.now_ms() + 30, loop.time())
    waiting = await asleep(deadline)
    deadline.set(None if later is None else clock.now_ms() + later, loop.time())
    assert not deadline._moved.is_set()
    await waiting
    assert loop.time() - began >= 0.29, "only its longest sleep ended it"


async def test_a_hint_that_came_after_the_question_is_news_to_the_answer(clock: ServerClock) -> None:
    deadline, loop = Deadline(clock, 30), asyncio.get_running_loop()
    asked_at = loop.time()
    deadline.bring_forward(clock.now_ms() + 20)
    deadline.set(clock.now_ms() + 60_000, asked_at)
    await asyncio.wait_for(deadline.wait(), 5)
