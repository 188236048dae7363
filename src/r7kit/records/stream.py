"""Reading the stream of changes: what was, and what comes."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal

import orjson

from redflow.engines.redis.connection import Connection
from redflow.engines.redis.replies import Reply, as_list, as_text
from redflow.errors import RedflowError

log = logging.getLogger("r7kit")

EventName = Literal["created", "patched", "deleted"]

_BLOCK_MS: Final = 1000
_AT_ONCE: Final = 500
_PAUSE_S: Final = 0.5
_ID: Final = re.compile(r"[0-9]{1,20}(-[0-9]{1,20})?")
_EVENTS: Final[dict[str, EventName]] = {"created": "created", "patched": "patched", "deleted": "deleted"}


@dataclass(frozen=True, slots=True)
class TaskChange:
    """One entry of the stream.

    Attributes:
        id: its id in the stream, by which a reader can go on later.
        event: created, patched or deleted.
        uuid: the task.
        ver: the version that the change made.
        at: when, UTC, ISO 8601.
        fields: names of the record's fields that were written or removed, such as `status` and `payload.result`.
        status: the task's status after the change.
    """

    id: str
    event: EventName
    uuid: str
    ver: int
    at: str
    fields: list[str]
    status: str


def is_after(one: str, other: str) -> bool:
    """Whether a stream id is later than another."""
    return _place(one) > _place(other)


def check_position(text: object) -> str:
    """Return `text` if it is a place in a stream: the id of an entry, or "$".

    Raises:
        ValueError: it is none.
    """
    if not isinstance(text, str) or (text != "$" and _ID.fullmatch(text) is None):
        raise ValueError(f'after must be the id of a change, such as "1700000000000-0", or "$", got {str(text)[:80]!r}')
    return text


class ChangeFeed:
    """One blocking reader for all who watch in this event loop, however many they are.

    Args:
        connection: to read what was; shared with others.
        stream: key of the stream.
    """

    def __init__(self, connection: Connection, stream: str) -> None:
        self._connection = connection
        self._stream = stream
        self._queues: dict[str, set[asyncio.Queue[TaskChange]]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._position: str | None = None

    @asynccontextmanager
    async def subscribe(self, task_id: str) -> AsyncIterator[asyncio.Queue[TaskChange]]:
        """A queue of a task's changes from now on; nothing that happens after the block is entered is missed."""
        queue: asyncio.Queue[TaskChange] = asyncio.Queue()
        if self._position is None:
            self._position = await self._last_id()
        queues = self._queues.setdefault(task_id, set())
        queues.add(queue)
        if self._reader is None:
            self._reader = asyncio.get_running_loop().create_task(self._read())
        try:
            yield queue
        finally:
            queues.discard(queue)
            if not queues:
                self._queues.pop(task_id, None)
            if not self._queues:
                await self._stop()

    async def history(self, since: str) -> AsyncGenerator[TaskChange, None]:
        """What the stream holds, in order.

        Args:
            since: a stream id; entries after it are given.
        """
        while True:
            entries = as_list(await self._connection.read("XRANGE", self._stream, f"({since}", "+", "COUNT", _AT_ONCE))
            for entry in entries:
                change = change_of(entry)
                since = as_text(as_list(entry)[0])
                if change is not None:
                    yield change
            if len(entries) < _AT_ONCE:
                return

    async def close(self) -> None:
        """Stop reading."""
        await self._stop()

    async def _stop(self) -> None:
        reader, self._reader, self._position = self._reader, None, None
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _last_id(self) -> str:
        newest = as_list(await self._connection.read("XREVRANGE", self._stream, "+", "-", "COUNT", 1))
        return as_text(as_list(newest[0])[0]) if newest else "0-0"

    async def _read(self) -> None:
        blocking = self._connection.twin()  # whoever shared it would wait for the stream
        try:
            while True:
                try:
                    await self._read_once(blocking)
                except RedflowError as exc:
                    log.warning("the stream %s can't be read, trying again: %s", self._stream, exc)
                    await asyncio.sleep(_PAUSE_S)
        finally:
            await blocking.close()

    async def _read_once(self, blocking: Connection) -> None:
        reply = await blocking.read(
            "XREAD", "COUNT", _AT_ONCE, "BLOCK", _BLOCK_MS, "STREAMS", self._stream, self._position or "0-0"
        )
        if reply is None:
            return
        for entry in as_list(as_list(as_list(reply)[0])[1]):
            self._position = as_text(as_list(entry)[0])
            change = change_of(entry)
            if change is not None:
                for queue in self._queues.get(change.uuid, ()):
                    queue.put_nowait(change)


def change_of(entry: Reply) -> TaskChange | None:
    """An entry as a change; None for one that another program put there, which is none of ours."""
    entry_id, flat = as_list(entry)
    values = as_list(flat)
    told = {as_text(name): as_text(value) for name, value in zip(values[::2], values[1::2], strict=True)}
    try:
        fields = orjson.loads(told["fields"])
        return TaskChange(
            as_text(entry_id),
            _EVENTS[told["event"]],
            told["uuid"],
            int(told["ver"]),
            told["at"],
            [str(name) for name in fields],
            told["status"],
        )
    except (KeyError, ValueError, TypeError):
        log.debug("entry %s of the stream is no change of a task", as_text(entry_id))
        return None


def _place(stream_id: str) -> tuple[int, int]:
    ms, _, seq = stream_id.partition("-")
    return int(ms), int(seq or 0)
