"""One multiplexed connection: many coroutines share it, their commands of one loop tick leave in one write.

It stands on redis-py's `Connection`, which brings TCP, TLS, unix sockets, Sentinel and authentication. redis-py's
client is not used, since it sends a command again by itself (a script whose reply is lost twice would run three
times) and since a pool costs more per call. A call whose connection breaks fails with `LinkLost`: it may have been
applied or not. Who calls knows whether asking again is harmless; see `connection.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from redflow.engines.redis.polling import Poller
from redflow.engines.redis.reading import DirectReading, read_directly
from redflow.engines.redis.replies import Reply

Argument = str | bytes | int | float
Connect = Callable[[], Awaitable[AbstractConnection]]


class LinkLost(Exception):
    """The connection broke while a command was under way, or none could be made.

    Attributes:
        sent: False when the command certainly never left this process.
    """

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class Link:
    """A connection that reconnects on the next call after it broke.

    Args:
        connect: makes a connected redis-py connection.
        reply_timeout_s: longest silence of a server that owes a reply; then the connection counts as broken.
    """

    def __init__(self, connect: Connect, *, reply_timeout_s: float = 5.0) -> None:
        self._connect = connect
        self.reply_timeout_s = reply_timeout_s
        self._connection: AbstractConnection | None = None
        self._pending: deque[asyncio.Future[Reply]] = deque()
        self._outbox: list[tuple[bytes, asyncio.Future[Reply]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._planned = False
        self._reader: asyncio.Task[None] | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._replies_seen = 0
        self._closed = False
        self._poller: Poller | None = None
        self._direct: DirectReading | None = None
        """Where replies are told as they arrive; without it there is no polling either."""
        self.connections = 0
        """How many it has had."""

    def poll_when(self, wanted: Callable[[], bool]) -> None:
        """Look again and again for a reply that is near, in place of sleeping, whenever `wanted` says so."""
        self._poller = Poller(wanted, lambda: bool(self._pending))

    def send(self, *args: Argument) -> asyncio.Future[Reply]:
        """Queue one command; the future is its reply.

        Raises (through the future):
            LinkLost: see the module's text.
            redis.exceptions.ResponseError: the server refused the command.
        """
        future = self._queue(args)
        if self._outbox and not self._planned and self._writer is None:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._write_planned)
        return future

    def send_now(self, *args: Argument) -> asyncio.Future[Reply]:
        """As `send`, but the command leaves before this returns, with all that is queued, if the connection stands.

        So the server works on it while this turn of the loop goes on.
        """
        future = self._queue(args)
        self._write()
        return future

    def _queue(self, args: Sequence[Argument]) -> asyncio.Future[Reply]:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        if self._closed:
            future.set_exception(LinkLost("the client is closed", sent=False))
        else:
            self._outbox.append((_pack(args), future))
        return future

    def _write_planned(self) -> None:
        self._planned = False
        self._write()

    def _write(self) -> None:
        if self._writer is not None or not self._outbox:
            return
        stream = None if self._connection is None else self._connection._writer
        if stream is None or stream.transport.is_closing() or stream.transport.get_write_buffer_size():
            # There is no connection, or the server is slow to read.
            self._writer = asyncio.get_running_loop().create_task(self._write_patiently())
        else:
            stream.writelines(self._take_outbox())
            if self._poller is not None and self._direct is not None:
                self._poller.sent()

    @property
    def closed(self) -> bool:
        """Whether it was closed for good."""
        return self._closed

    @property
    def in_use(self) -> bool:
        """Whether there is a connection, or one is being made."""
        return self._connection is not None or self._writer is not None

    @property
    def connection(self) -> AbstractConnection | None:
        """The connection of the moment, if there is one."""
        return self._connection

    async def reconnect(self, why: str, number: int) -> None:
        """Drop the connection, so that the next call makes a new one; calls under way fail with LinkLost.

        Args:
            why: what those calls fail with.
            number: of the connection that is meant, see `connections`; if there has been another since, that one stays.
        """
        if number == self.connections:
            await self._drop(why)

    async def close(self) -> None:
        """Drop the connection; calls under way fail with LinkLost."""
        self._closed = True
        writer = self._writer
        await self._drop("the client is closed", for_good=True)
        if writer is not None:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _write_patiently(self) -> None:
        try:
            while self._outbox and not self._closed:
                try:
                    connection = self._connection or await self._open()
                except Exception as exc:  # whatever it is (a server too old, say), those who wait must hear of it
                    self._fail_outbox(exc)
                    return
                try:
                    await connection.send_packed_command(self._take_outbox(), check_health=False)
                except (RedisError, OSError) as exc:
                    await self._drop(f"sending failed: {exc}")
        finally:
            self._writer = None
            if self._closed:
                self._fail_outbox(LinkLost("the client is closed", sent=False))

    def _take_outbox(self) -> list[bytes]:
        """What is queued, packed; from now on its replies are owed."""
        batch, self._outbox = self._outbox, []
        self._pending.extend(future for _, future in batch)
        self._watch()
        return [packed for packed, _ in batch]

    async def _open(self) -> AbstractConnection:
        try:
            connection = await self._connect()
        except AuthenticationError:
            raise
        except (TimeoutError, RedisError, OSError) as exc:
            raise LinkLost(str(exc) or "it did not answer in time", sent=False) from exc
        self._connection = connection
        self.connections += 1
        self._direct = read_directly(connection, self._settle, partial(self._lost, connection))
        reading = self._read_replies(connection) if self._direct is None else self._stand_by(connection)
        self._reader = asyncio.get_running_loop().create_task(reading)
        return connection

    def _lost(self, connection: AbstractConnection, why: str) -> None:
        """Nothing more comes over a connection; told of one that is left behind, too."""
        if self._connection is connection:
            reader = self._reader
            self._forget(why)
            _in_background(self._hang_up(connection, reader))

    def _settle(self, reply: Reply | Exception) -> None:
        """Give a reply to who waits for it."""
        self._replies_seen += 1
        future = self._pending.popleft()
        if future.cancelled():
            return
        if isinstance(reply, Exception):
            future.set_exception(reply)
        else:
            future.set_result(reply)

    async def _read_replies(self, connection: AbstractConnection) -> None:
        try:
            while True:
                try:
                    self._settle(await connection.read_response(disable_decoding=True, disconnect_on_error=False))
                except ResponseError as exc:
                    self._settle(exc)
        except (RedisError, OSError, IndexError) as exc:
            await self._drop(f"the connection broke: {exc}", reader_ended=True)
        except asyncio.CancelledError:
            await self._end_with_loop(connection)
            raise

    async def _stand_by(self, connection: AbstractConnection) -> None:
        """While replies are told as they arrive."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await self._end_with_loop(connection)

    async def _end_with_loop(self, connection: AbstractConnection) -> None:
        if self._connection is connection:  # the reading was cancelled not by us but with the whole loop
            await _disconnect(connection)

    def _watch(self) -> None:
        """While replies are owed, look now and then whether any came."""
        if self._watchdog is None:
            loop = asyncio.get_running_loop()
            self._watchdog = loop.call_later(self.reply_timeout_s, self._check_silence, self._replies_seen)

    def _check_silence(self, seen: int) -> None:
        self._watchdog = None
        if not self._pending:
            return
        if self._replies_seen == seen:
            _in_background(self._drop(f"no reply in {self.reply_timeout_s:g} s"))
        else:
            self._watch()

    def _forget(self, why: str) -> None:
        """The connection is none any more; what it owes fails."""
        self._connection = self._reader = None
        if self._direct is not None:
            self._direct.end()
            self._direct = None
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        lost, self._pending = self._pending, deque()
        for future in lost:
            if not future.done():
                future.set_exception(LinkLost(why, sent=True))

    async def _drop(self, why: str, *, reader_ended: bool = False, for_good: bool = False) -> None:
        connection, reader = self._connection, self._reader
        self._forget(why)
        await self._hang_up(connection, None if reader_ended else reader, for_good=for_good)

    async def _hang_up(
        self, connection: AbstractConnection | None, reader: asyncio.Task[None] | None, *, for_good: bool = False
    ) -> None:
        try:
            if reader is not None:
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)
        finally:  # also when whoever called this is cancelled meanwhile
            if connection is not None and for_good:
                await hang_up(connection)
            elif connection is not None:
                await _disconnect(connection)

    def _fail_outbox(self, exc: Exception) -> None:
        batch, self._outbox = self._outbox, []
        for _, future in batch:
            if not future.done():
                future.set_exception(exc)


def _in_background(end: Coroutine[object, object, None]) -> None:
    task = asyncio.get_running_loop().create_task(end)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())


async def _disconnect(connection: AbstractConnection) -> None:
    with contextlib.suppress(RedisError, OSError):
        await connection.disconnect(nowait=True)


async def hang_up(connection: AbstractConnection, patience_s: float = 0.5) -> None:
    """Close a connection for good. Over TLS that takes a word of the other side: waited for, but not for long."""
    with contextlib.suppress(TimeoutError, RedisError, OSError):
        async with asyncio.timeout(patience_s):
            await connection.disconnect()


def _pack_plain(args: Sequence[Argument]) -> bytes:
    """A command in the Redis protocol (an array of bulk strings)."""
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        data = arg if isinstance(arg, bytes) else str(arg).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


try:
    from hiredis import pack_command as _pack_fast
except ImportError:  # the extra `fast` is not installed
    _pack = _pack_plain
else:

    def _pack(args: Sequence[Argument]) -> bytes:
        """A command in the Redis protocol, packed in C: a fifth of the time."""
        packed: bytes = _pack_fast(tuple(args))  # type: ignore[arg-type]  # reason: its stub says tuple of one
        return packed
