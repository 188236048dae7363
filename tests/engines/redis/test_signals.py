"""The connection that waits for the server to speak first. Played with both ways of reading, as in test_link."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.connection import Connection as TcpConnection

from redflow.engines.redis import signals as signals_module
from redflow.engines.redis.connection import Connection
from redflow.engines.redis.signals import Signals
from tests.support.world import soon


@pytest.fixture(params=["direct", "by redis-py"])
def reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How what is heard is read."""
    if request.param != "direct":
        monkeypatch.setattr(signals_module, "read_directly", lambda *_args: None)
    return str(request.param)


@dataclass
class Listener:
    """What was heard."""

    messages: list[tuple[str, bytes]] = field(default_factory=list)
    gaps: int = 0

    def hear(self, channel: str, message: bytes) -> None:
        if message == b"nonsense":
            raise ValueError("no such message")
        self.messages.append((channel, message))

    def gap(self) -> None:
        self.gaps += 1


def connection_to(url: str) -> Connection:
    async def new() -> AbstractConnection:
        return TcpConnection(**parse_url(url), protocol=2)

    return Connection(new, "the test's server")


@contextlib.asynccontextmanager
async def listening(url: str, channels: list[str], heard: Listener) -> AsyncIterator[Signals]:
    connection = connection_to(url)
    signals = Signals(connection, channels, heard.hear, heard.gap)
    await signals.open()
    try:
        yield signals
    finally:
        await signals.close()
        await connection.close()


async def test_what_is_said_is_heard_in_order_whatever_is_nonsense(redis_url: str, prefix: str, reading: str) -> None:
    heard, (one, two) = Listener(), (f"{prefix}one", f"{prefix}two")
    async with listening(redis_url, [one, two], heard), Redis.from_url(redis_url) as redis:
        said = [(one, b"a"), (two, b"b"), (one, b"nonsense"), (one, b"c" * 100_000), (two, b"d")]
        for channel, message in said:
            assert await redis.publish(channel, message) == 1
        sense = [one for one in said if one[1] != b"nonsense"]
        await soon(lambda: len(heard.messages) == len(sense), "all of it")
        assert heard.messages == sense
        assert heard.gaps == 0


async def test_a_subscription_that_broke_comes_back_and_tells_of_the_gap(
    redis_url: str, prefix: str, reading: str
) -> None:
    heard, channel = Listener(), f"{prefix}one"
    async with listening(redis_url, [channel], heard) as signals, Redis.from_url(redis_url) as redis:
        for number in range(1, 4):
            mine = [c["id"] for c in await redis.client_list(_type="pubsub") if c["sub"] == "1"]
            assert mine
            for one in mine:
                await redis.client_kill_filter(_id=one)
            await soon(lambda number=number: heard.gaps == number, "the gap")  # type: ignore[misc]
            assert signals.alive
            assert await redis.publish(channel, b"%d" % number) == 1
            await soon(lambda number=number: len(heard.messages) == number, "the message")  # type: ignore[misc]


async def test_a_loop_that_ends_closes_the_subscription(redis_url: str, prefix: str, reading: str) -> None:
    complaints: list[str] = []

    async def use(*, killed: bool) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: complaints.append(context["message"]))
        signals = Signals(connection_to(redis_url), [f"{prefix}one"], Listener().hear)
        await signals.open()
        async with Redis.from_url(redis_url) as redis:
            if killed:
                await redis.client_kill_filter(_type="pubsub")

    for killed in (False, True):
        await asyncio.to_thread(asyncio.run, use(killed=killed))
    assert complaints == []
