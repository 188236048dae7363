"""The push connection: the only place that waits for the server to speak first.

Everything heard here is a hint (bells, cancels, ends of runs, due times): a lost one costs time, never correctness,
since each listener also looks for itself now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from redflow.engines.redis.connection import Connection
from redflow.engines.redis.link import hang_up
from redflow.engines.redis.reading import read_directly
from redflow.engines.redis.replies import Reply
from redflow.errors import ConnectionError, RedflowError

log = logging.getLogger("redflow")

OnMessage = Callable[[str, bytes], None]
_PING_EVERY_S: Final = 20.0
_SILENCE_LIMIT_S: Final = 45.0
_FIRST_DELAY_S: Final = 0.05


class Signals:
    """A subscription that mends itself.

    Args:
        connection: where the server is.
        channels: what to hear.
        on_message: called on the event loop with channel and message; must not block.
        on_gap: called whenever messages may have been missed (after each new connection but the first).
    """

    def __init__(
        self,
        connection: Connection,
        channels: list[str],
        on_message: OnMessage,
        on_gap: Callable[[], None] | None = None,
    ) -> None:
        self._source = connection
        self._channels = channels
        self._on_message = on_message
        self._on_gap = on_gap
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._moved = asyncio.Event()
        self._failure: Exception | None = None
        self._delay_s = _FIRST_DELAY_S
        """Before the next attempt."""

    async def open(self) -> None:
        """Start listening; returns when the subscription stands.

        Raises:
            ConnectionError: the server can't be reached in time.
        """
        if self._task is None:
            self._source.on_moved.add(self._moved.set)
            self._task = asyncio.get_running_loop().create_task(self._listen(), name="redflow-signals")
        try:
            async with asyncio.timeout(10):
                await self._ready.wait()
        except TimeoutError:
            raise ConnectionError(f"can't subscribe at {self._source.address}: {self._failure}") from self._failure

    def hears(self, connection: Connection) -> bool:
        """Whether it is this server that it listens to."""
        return self._source is connection

    @property
    def alive(self) -> bool:
        """Whether the subscription stands right now."""
        return self._ready.is_set()

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._source.on_moved.discard(self._moved.set)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _listen(self) -> None:
        first = True
        while True:
            connection: AbstractConnection | None = None
            try:
                self._moved.clear()
                connection = await self._source.connect()
                await self._hear(connection, first)
            except (TimeoutError, RedisError, OSError, RedflowError) as exc:
                if self._ready.is_set() or isinstance(exc, AuthenticationError):
                    log.warning("lost the push connection to %s: %s", self._source.address, exc)
                self._failure = exc
                first = first and not self._ready.is_set()
                self._ready.clear()
            finally:
                if connection is not None:
                    await hang_up(connection)
            await asyncio.sleep(self._delay_s)
            self._delay_s = min(self._delay_s * 2, 1.0)

    async def _hear(self, connection: AbstractConnection, first: bool) -> None:
        """Subscribe, and listen until the connection breaks."""
        loop = asyncio.get_running_loop()
        heard, confirmed = loop.time(), 0
        lost: asyncio.Future[None] = loop.create_future()

        def lose(why: Exception) -> None:
            if not lost.done():
                lost.set_exception(why)

        def hear(message: Reply | ResponseError) -> None:
            nonlocal heard, confirmed
            heard = loop.time()
            if isinstance(message, ResponseError):
                lose(message)
            elif isinstance(message, list) and len(message) == 3 and message[0] == b"message":
                self._tell(message[1], message[2])
            elif isinstance(message, list) and message and message[0] == b"subscribe":
                confirmed += 1
                if confirmed == len(self._channels):
                    self._stands(first)

        reading = read_directly(connection, hear, lambda why: lose(RedisConnectionError(why)))
        pinger = loop.create_task(self._ping(connection, lambda: heard))
        try:
            await connection.send_command("SUBSCRIBE", *self._channels, check_health=False)
            while reading is None:
                hear(await connection.read_response(disable_decoding=True, disconnect_on_error=False))
            await lost
        finally:
            pinger.cancel()
            if lost.done() and not lost.cancelled():
                lost.exception()  # heard of, even if something else ended this
            if reading is not None:
                reading.end()

    def _stands(self, first: bool) -> None:
        self._delay_s = _FIRST_DELAY_S
        self._ready.set()
        if not first and self._on_gap is not None:
            self._on_gap()

    def _tell(self, channel: Reply, message: Reply) -> None:
        """What is heard comes from outside: a message that makes no sense is logged and passed over."""
        assert isinstance(channel, bytes)
        assert isinstance(message, bytes)
        try:
            self._on_message(channel.decode(), message)
        except Exception:
            log.exception("a message on %r could not be handled: %r", channel, message[:200])

    async def _ping(self, connection: AbstractConnection, heard: Callable[[], float]) -> None:
        """A half-open connection would never speak again: ask it, and give it up when it stays silent.

        One to a server that isn't the master any more stays silent as well.
        """
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PING_EVERY_S):
                    await self._moved.wait()
            if self._moved.is_set():
                await connection.disconnect(nowait=True)
                return
            if asyncio.get_running_loop().time() - heard() > _SILENCE_LIMIT_S:
                log.warning("the push connection to %s is silent; connecting anew", self._source.address)
                await connection.disconnect(nowait=True)
                return
            await connection.send_command("PING", check_health=False)
