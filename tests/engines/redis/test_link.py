"""One connection that many share: order, refusals, large replies, and every way in which it can break.

Each test plays twice: with replies told as they arrive (hiredis), and read as redis-py does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from operator import attrgetter
from pathlib import Path

import pytest
from redis.asyncio.connection import AbstractConnection, Connection, UnixDomainSocketConnection, parse_url
from redis.exceptions import ResponseError

from redflow.engines.redis import link as link_module
from redflow.engines.redis.discovery import open_connection
from redflow.engines.redis.link import Link, LinkLost
from redflow.engines.redis.replies import Reply
from tests.support.world import soon

Say = Callable[[bytes], bytes | None]
"""What a scripted server answers to what it hears; None: it hangs up."""


@pytest.fixture(params=["direct", "by redis-py"])
def reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How replies are read."""
    if request.param != "direct":
        monkeypatch.setattr(link_module, "read_directly", lambda *_args: None)
    return str(request.param)


async def opened(connection: AbstractConnection) -> AbstractConnection:
    await open_connection(connection)
    return connection


@pytest.fixture
async def link(redis_url: str, reading: str) -> AsyncIterator[Link]:
    made = Link(lambda: opened(Connection(**parse_url(redis_url))))
    yield made
    await made.close()


class Scripted(asyncio.Protocol):
    """A server of our own, which answers by a function once it has been greeted."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if greetings := data.count(b"CLIENT\r\n"):
            self._transport.write(b"+OK\r\n" * greetings)
        elif (answer := self._say(data)) is None:
            self._transport.close()
        else:
            self._transport.write(answer)


@contextlib.asynccontextmanager
async def scripted(directory: Path, say: Say) -> AsyncIterator[Link]:
    """A link to such a server."""
    path = str(directory / "s")
    server = await asyncio.get_running_loop().create_unix_server(lambda: Scripted(say), path)
    made = Link(lambda: opened(UnixDomainSocketConnection(path=path, protocol=2)), reply_timeout_s=0.3)
    try:
        yield made
    finally:
        await made.close()
        server.close()
        await server.wait_closed()


async def test_replies_come_in_the_order_of_the_commands(link: Link, prefix: str) -> None:
    sent = [link.send("ECHO", str(n)) for n in range(300)]
    sent.append(link.send_now("ECHO", "now"))
    assert await asyncio.gather(*sent) == [b"%d" % n for n in range(300)] + [b"now"]
    assert link.connections == 1


async def test_a_refusal_concerns_its_command_alone(link: Link, prefix: str) -> None:
    key = f"{prefix}text"
    answers = await asyncio.gather(
        link.send("SET", key, "x"), link.send("INCR", key), link.send("DEL", key), return_exceptions=True
    )
    assert answers[0] in (b"OK", "OK")
    assert isinstance(answers[1], ResponseError)
    assert answers[2] == 1
    assert link.connections == 1


async def test_replies_of_megabytes_arrive_whole(link: Link) -> None:
    large = b"x" * 5_000_000
    sent = [link.send("ECHO", large), link.send("ECHO", b"small"), link.send("ECHO", large)]
    assert await asyncio.gather(*sent) == [large, b"small", large]


async def test_a_caller_that_gave_up_does_not_shift_the_replies(link: Link) -> None:
    first = link.send("ECHO", "first")
    second = link.send("ECHO", "second")
    first.cancel()
    assert await second == b"second"


async def test_a_killed_connection_fails_what_it_owes_and_the_next_call_makes_a_new_one(link: Link) -> None:
    me = await link.send("CLIENT", "ID")
    killed, owed = link.send("CLIENT", "KILL", "ID", str(me), "SKIPME", "no"), link.send("PING")
    with pytest.raises(LinkLost) as lost:
        await asyncio.gather(killed, owed)
    assert lost.value.sent
    assert await link.send("ECHO", "again") == b"again"
    assert link.connections == 2


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"?what\r\n", "rotocol"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "loading"),
        (b"+OK\r\n+nobody asked\r\n", ""),
        (b"$5\r\nhel", "no reply in"),
        (None, "closed"),
    ],
)
async def test_a_server_that_talks_nonsense_or_hangs_up(
    tmp_path: Path, reading: str, answer: bytes | None, why: str
) -> None:
    sane = False

    def say(heard: bytes) -> bytes | None:
        return b"+fine\r\n" if sane else answer

    async with scripted(tmp_path, say) as link:
        asked = link.send("PING")
        if answer is not None and answer.startswith(b"+OK"):
            assert await asked == b"OK"  # the reply that was owed; what follows it can't be believed any more
            await soon(lambda: link.connection is None, "the connection is given up")
        else:
            with pytest.raises(LinkLost, match=f"(?i){why}") as lost:
                await asked
            assert lost.value.sent
        sane = True
        assert await link.send("PING") == b"fine"
        assert link.connections == 2


async def test_a_late_reply_of_a_former_connection_is_nobodys(tmp_path: Path, reading: str) -> None:
    """A server that was silent for too long and answers at last must not answer what was asked over the next one."""
    heard: list[bytes] = []

    def say(data: bytes) -> bytes:
        heard.append(data)
        return b"" if len(heard) == 1 else b"+second\r\n"

    async with scripted(tmp_path, say) as link:
        with pytest.raises(LinkLost, match="no reply in"):
            await link.send("PING")
        assert link._direct is None
        assert await link.send("PING") == b"second"


async def test_what_a_left_connection_still_says_is_not_told(tmp_path: Path) -> None:
    async with scripted(tmp_path, lambda _heard: b"+one\r\n") as link:
        assert await link.send("PING") == b"one"
        reading = link._direct
        assert reading is not None
        asked = link.send_now("PING")
        await link.reconnect("left behind by the test", link.connections)
        reading.data_received(b"+late\r\n")
        with pytest.raises(LinkLost, match="left behind"):
            await asked


async def test_a_loop_that_ends_closes_the_connection(redis_url: str, reading: str) -> None:
    """Who forgets to close a link leaves no open socket: checked in a loop of its own, in a thread."""
    connection = Connection(**parse_url(redis_url))

    async def use() -> Reply:
        return await Link(lambda: opened(connection)).send("ECHO", "hello")

    assert await asyncio.to_thread(asyncio.run, use()) == b"hello"
    assert not connection.is_connected


async def test_a_loop_that_ends_when_the_server_has_just_hung_up(redis_url: str, reading: str) -> None:
    """Nothing is left open then, and nothing is said on stderr."""
    connection, complaints = Connection(**parse_url(redis_url)), []

    async def use() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: complaints.append(context["message"]))
        link = Link(lambda: opened(connection))
        me = await link.send("CLIENT", "ID")
        with contextlib.suppress(LinkLost):
            await asyncio.gather(link.send("CLIENT", "KILL", "ID", str(me), "SKIPME", "no"), link.send("PING"))

    await asyncio.to_thread(asyncio.run, use())
    assert not connection.is_connected
    assert complaints == []


async def test_an_end_that_is_heard_in_the_last_turn_of_the_loop_closes_the_connection(redis_url: str) -> None:
    connection = Connection(**parse_url(redis_url))
    writers: list[asyncio.StreamWriter] = []

    async def use() -> None:
        link = Link(lambda: opened(connection))
        await link.send("PING")
        assert link._direct is not None
        writers.append(link._direct._writer)
        asyncio.get_running_loop().call_soon(link._direct.eof_received)

    await asyncio.to_thread(asyncio.run, use())
    assert writers[0].is_closing()
    connection._reader = connection._writer = None  # or redis-py says that nobody has told it of the end


async def test_what_redis_py_has_parsed_halfway_keeps_it_reading(tmp_path: Path) -> None:
    """Half of a push message lies in its parser: whoever begins to read behind it would take all for another's."""
    push = b">2\r\n$3\r\nwho\r\n$4\r\nasks\r\n"

    async with scripted(tmp_path, lambda _heard: push[9:] + b"+mine\r\n") as link:
        plain = link._connect

        async def connect() -> AbstractConnection:
            connection = await plain()
            attrgetter("_parser._reader")(connection).feed(push[:9])
            return connection

        link._connect = connect
        assert await link.send("PING") == b"mine"
        assert link._direct is None


async def test_it_reads_directly_where_it_can(link: Link, reading: str) -> None:
    await link.send("PING")
    assert (link._direct is not None) == (reading == "direct")
