"""Replies as they arrive: parsed where the bytes come in, and told at once.

redis-py reads through asyncio's stream: each reply wakes a task and goes through five coroutines, which costs as much
as the step that waits for it. Once redis-py has opened and greeted a connection, its transport is given to the
protocol here. Needs hiredis; without it, `link.py` reads as redis-py does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import InvalidResponse, RedisError, ResponseError

from redflow.engines.redis.replies import Reply

OnReply = Callable[[Reply | ResponseError], None]
OnLost = Callable[[str], None]


class _Parser(Protocol):
    """What is used of hiredis.Reader."""

    def feed(self, data: bytes, /) -> None: ...

    def gets(self) -> Reply | RedisError | _Incomplete: ...


class _Incomplete:
    """What the parser answers while a reply has not arrived in full."""


class _Push(list[object]):
    """What stands for hiredis' class of push messages where it has none."""


_INCOMPLETE = _Incomplete()


class DirectReading(asyncio.Protocol):
    """Reads a connection; the stream's own protocol goes on to hear of everything but data.

    Args:
        writer: of the connection.
        stream: that protocol.
        parser: of replies.
        on_reply, on_lost: see `read_directly`.
    """

    def __init__(
        self,
        writer: asyncio.StreamWriter,
        stream: asyncio.StreamReaderProtocol,
        parser: _Parser,
        on_reply: OnReply,
        on_lost: OnLost,
    ) -> None:
        self._writer = writer
        self._stream = stream
        self._parser = parser
        self._on_reply = on_reply
        self._on_lost = on_lost
        self._ended = False

    def end(self) -> None:
        """Close the connection and tell nothing more: what still arrives was asked by nobody who waits.

        Closed here, at once, since the loop may be about to end.
        """
        self._ended = True
        self._writer.close()

    def data_received(self, data: bytes) -> None:
        """Something arrived."""
        if self._ended:
            return
        try:
            self._parser.feed(data)
            while not self._ended:
                reply = self._parser.gets()
                if isinstance(reply, _Incomplete):
                    return
                self._tell(reply)
        except (RedisError, IndexError) as exc:  # IndexError: a reply that nobody has asked for
            self._on_lost(f"the connection broke: {exc}")

    def _tell(self, reply: Reply | RedisError) -> None:
        if isinstance(reply, RedisError) and not isinstance(reply, ResponseError):
            raise reply  # as BusyLoadingError: the server refuses the connection, not one command
        if not isinstance(reply, _PUSH):
            self._on_reply(reply)

    def eof_received(self) -> bool | None:
        """The server says nothing more."""
        self._on_lost("the connection broke: closed by the server")
        return self._stream.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self._on_lost(f"the connection broke: {exc or 'closed'}")
        self._stream.connection_lost(exc)

    def pause_writing(self) -> None:
        """The server is slow to read."""
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        """It has read."""
        self._stream.resume_writing()


def _holds_unread(connection: AbstractConnection, reader: asyncio.StreamReader) -> bool:
    """Whether something lies in the stream or in redis-py's parser (or nobody can tell: both are not public)."""
    parser = getattr(getattr(connection, "_parser", None), "_reader", None)
    return bool(getattr(reader, "_buffer", b"?")) or bool(getattr(parser, "has_data", lambda: True)())


try:
    import hiredis
except ImportError:  # the extra `fast` is not installed

    def read_directly(connection: AbstractConnection, on_reply: OnReply, on_lost: OnLost) -> DirectReading | None:
        """Not without hiredis."""
        return None

else:
    _PUSH: type[list[object]] = getattr(hiredis, "PushNotification", _Push)

    def read_directly(connection: AbstractConnection, on_reply: OnReply, on_lost: OnLost) -> DirectReading | None:
        """Take over what a greeted connection hears.

        Args:
            connection: of redis-py, over which nothing is owed.
            on_reply: called with each reply or refusal, in order; must not block.
            on_lost: called with the reason when nothing more can come; perhaps more than once.

        Returns:
            What reads from now on; None when it can't be done: somebody's own kind of connection, or one over which
            something was said that nobody has read.
        """
        writer, reader = getattr(connection, "_writer", None), getattr(connection, "_reader", None)
        if not isinstance(writer, asyncio.StreamWriter) or not isinstance(reader, asyncio.StreamReader):
            return None
        stream = writer.transport.get_protocol()
        if _holds_unread(connection, reader) or not isinstance(stream, asyncio.StreamReaderProtocol):
            return None
        parser: _Parser = hiredis.Reader(
            protocolError=InvalidResponse, replyError=connection._parser.parse_error, notEnoughData=_INCOMPLETE
        )
        reading = DirectReading(writer, stream, parser, on_reply, on_lost)
        writer.transport.set_protocol(reading)
        return reading
