"""The proxy counts round trips and does its harm at exactly the one that was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.chaos.proxy import WHERES, Cut, Proxy, Where
from tests.chaos.resp import INCOMPLETE, frame_end, words_of
from tests.support.servers import ServerProcess


def command(*words: str) -> bytes:
    return f"*{len(words)}\r\n".encode() + b"".join(f"${len(w)}\r\n{w}\r\n".encode() for w in words)


@pytest.fixture
async def proxy(server: ServerProcess) -> AsyncIterator[Proxy]:
    proxy = Proxy(server.port, {})
    yield proxy
    await proxy.close()


async def exchange(port: int, data: bytes, expect: int) -> bytes:
    """Send, and read until so many bytes came or the connection ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    received = b""
    try:
        while len(received) < expect and (more := await reader.read(4096)):
            received += more
    except ConnectionResetError:
        pass
    writer.close()
    return received


@pytest.mark.parametrize(
    "frame",
    [
        b"+OK\r\n",
        b":12\r\n",
        b"$3\r\na\r\n\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
        b"%1\r\n+a\r\n+b\r\n",
    ],
)
def test_a_frame_ends_where_it_ends(frame: bytes) -> None:
    assert frame_end(frame + b"+more\r\n", 0) == len(frame)
    for length in range(len(frame)):
        assert frame_end(frame[:length], 0) == INCOMPLETE


def test_the_words_of_a_command() -> None:
    assert words_of(command("EVALSHA", "abc", "1"), 2) == [b"EVALSHA", b"abc"]


async def test_it_passes_everything_on_and_counts(proxy: Proxy) -> None:
    port = await proxy.start()
    assert await exchange(port, command("PING") + command("ECHO", "x" * 100_000), 100_018) == (
        b"+PONG\r\n$100000\r\n" + b"x" * 100_000 + b"\r\n"
    )
    assert (proxy.trips, proxy.names) == (2, ["PING", "ECHO"])


@pytest.mark.parametrize("where", WHERES)
async def test_a_cut_is_at_exactly_the_command_it_names(
    proxy: Proxy, redis_url: str, prefix: str, where: Where
) -> None:
    """Of three pipelined INCRs the second is cut: before it, in place of its reply, or after its reply."""
    port = await proxy.start()
    acted: list[str] = []
    proxy.cut = Cut(2, where, lambda: acted.append(where))
    data = command("INCR", prefix) + command("INCR", prefix) + command("GET", prefix)
    received = await exchange(port, data, 100)
    assert acted == [where]
    assert proxy.fired.is_set()
    assert received == (b":1\r\n:2\r\n" if where == "after" else b":1\r\n" if where == "reply" else received)
    assert await exchange(port, command("GET", prefix), 7) == (b"$1\r\n1\r\n" if where == "before" else b"$1\r\n2\r\n")
    await exchange(port, command("DEL", prefix), 4)


async def test_a_frozen_process_keeps_its_connection(proxy: Proxy) -> None:
    port = await proxy.start()
    proxy.cut = Cut(1, "after", lambda: None, keep=True)
    assert await exchange(port, command("PING") + command("PING"), 14) == b"+PONG\r\n+PONG\r\n"


async def test_half_open_says_nothing_until_it_heals(proxy: Proxy) -> None:
    port = await proxy.start()
    proxy.half_open()
    pending = asyncio.ensure_future(exchange(port, command("PING"), 7))
    done, _ = await asyncio.wait([pending], timeout=0.2)
    assert not done
    proxy.heal()
    assert await pending == b"+PONG\r\n"


async def test_slow_and_in_small_pieces_is_still_right(proxy: Proxy) -> None:
    port = await proxy.start()
    proxy.delay_s, proxy.chunk = 0.01, 3
    assert await exchange(port, command("ECHO", "x" * 50), 57) == b"$50\r\n" + b"x" * 50 + b"\r\n"


async def test_a_lost_reply_was_applied(proxy: Proxy, prefix: str) -> None:
    port = await proxy.start()
    proxy.lose_next_reply()
    assert await exchange(port, command("INCR", prefix), 4) == b""
    assert await exchange(port, command("GET", prefix), 7) == b"$1\r\n1\r\n"
    await exchange(port, command("DEL", prefix), 4)
