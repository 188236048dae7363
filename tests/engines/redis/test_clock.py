"""The server's time as a worker tells it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from redflow.engines.redis import clock
from redflow.engines.redis.clock import ServerClock


class Moments:
    """The monotonic clock of this test."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        """What the product asks."""
        return self.now_s


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> Moments:
    """The time that the product sees; the server's is a million ms ahead of it."""
    moments = Moments()
    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=moments.monotonic))
    return moments


AHEAD_MS = 1_000_000


def ask(told: ServerClock, moments: Moments, there_s: float, back_s: float) -> None:
    """One question: the server answers after `there_s`, the reply is looked at `back_s` later."""
    marked = told.mark()
    moments.now_s += there_s
    server_now = int(moments.now_s * 1000) + AHEAD_MS
    moments.now_s += back_s
    told.observe(server_now, marked)


def error_ms(told: ServerClock, moments: Moments) -> float:
    """By how much the clock is ahead."""
    return told.now_ms() - moments.now_s * 1000 - AHEAD_MS


def test_a_reply_that_was_long_under_way_does_not_set_the_clock_back(moments: Moments) -> None:
    told = ServerClock()
    ask(told, moments, 0.0005, 0.0005)
    for _ in range(5):
        ask(told, moments, 0.001, 2.0)  # as after a long fan-out, or over a network that stalls
        assert -3 <= error_ms(told, moments) <= 1


def test_a_quick_reply_mends_what_a_slow_one_began(moments: Moments) -> None:
    told = ServerClock()
    ask(told, moments, 0.0, 3.0)
    assert error_ms(told, moments) == pytest.approx(-3_000, abs=2)
    ask(told, moments, 0.001, 0.001)
    assert -3 <= error_ms(told, moments) <= 1


def test_a_server_whose_clock_goes_back_is_followed(moments: Moments) -> None:
    """A replica took over whose clock is behind."""
    told = ServerClock()
    ask(told, moments, 0.001, 0.001)
    marked = told.mark()
    moments.now_s += 0.01
    told.observe(int(moments.now_s * 1000) + AHEAD_MS - 5_000, marked)
    assert error_ms(told, moments) == pytest.approx(-5_000, abs=15)


def test_a_server_whose_clock_goes_on_is_followed(moments: Moments) -> None:
    told = ServerClock()
    ask(told, moments, 0.001, 0.001)
    marked = told.mark()
    told.observe(int(moments.now_s * 1000) + AHEAD_MS + 60_000, marked)
    assert error_ms(told, moments) == pytest.approx(60_000, abs=2)
