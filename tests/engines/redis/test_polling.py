"""When a worker looks for a reply without sleeping, and when it gives that up."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from redflow.engines.redis import polling
from redflow.engines.redis.polling import LONGEST_S, Poller


class Clock:
    """Time as the poller sees it: each look takes a while."""

    def __init__(self, look_s: float) -> None:
        self.now = 0.0
        self._look_s = look_s

    def perf_counter(self) -> float:
        self.now += self._look_s
        return self.now


class Owing:
    """A server that answers after so many looks."""

    def __init__(self) -> None:
        self.looks_left = 0

    def send(self, answers_after: int) -> None:
        self.looks_left = answers_after

    def __call__(self) -> bool:
        self.looks_left -= 1
        return self.looks_left >= 0


LOOK_S = LONGEST_S / 20


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(LOOK_S)
    monkeypatch.setattr(polling, "time", clock)
    return clock


async def looks_of(poller: Poller, owing: Owing, answers_after: int) -> int:
    """Send one command; how often the poller looked for its reply."""
    owing.send(answers_after)
    poller.sent()
    for _ in range(100):
        await asyncio.sleep(0)
    return answers_after - owing.looks_left


async def test_it_looks_until_the_reply_is_there(clock: Clock) -> None:
    owing = Owing()
    poller = Poller(lambda: True, owing)
    assert await looks_of(poller, owing, 3) == 4
    assert await looks_of(poller, owing, 0) == 1


async def test_it_does_not_look_for_ever(clock: Clock) -> None:
    owing = Owing()
    poller = Poller(lambda: True, owing)
    assert 15 <= await looks_of(poller, owing, 1000) <= 21


async def test_it_does_not_look_when_there_is_other_work(clock: Clock) -> None:
    owing = Owing()
    poller = Poller(lambda: False, owing)
    assert await looks_of(poller, owing, 3) == 0


async def test_a_server_that_is_far_away_is_left_alone(clock: Clock) -> None:
    owing = Owing()
    poller = Poller(lambda: True, owing)
    looked = [await looks_of(poller, owing, 1000) > 0 for _ in range(600)]
    trials = [number for number, did in enumerate(looked) if did]
    rests = [after - before - 1 for before, after in pairwise(trials)]
    assert rests == [0, 0, 0, 64, 128, 256], "four misses in a row, then one trial after ever longer rests"


async def test_a_server_that_has_come_near_again_is_looked_for_again(clock: Clock) -> None:
    owing = Owing()
    poller = Poller(lambda: True, owing)
    for _ in range(4):
        await looks_of(poller, owing, 1000)
    for _ in range(64):
        assert await looks_of(poller, owing, 2) == 0
    assert [await looks_of(poller, owing, 2) for _ in range(10)] == [3] * 10
    misses = [await looks_of(poller, owing, 1000) > 0 for _ in range(6)]
    assert misses == [True] * 4 + [False] * 2, "it has its four misses again"


async def test_a_miss_now_and_then_costs_nothing(clock: Clock) -> None:
    owing = Owing()
    poller = Poller(lambda: True, owing)
    for _ in range(30):
        assert await looks_of(poller, owing, 1000) > 1
        assert await looks_of(poller, owing, 2) == 3
