"""A TCP proxy between one process and Redis that counts round trips and does harm at exactly the i-th.

A round trip is one command, of whichever connection of the process, in the order in which the proxy hears them; the
greeting of a connection counts too, since a process may die there as well.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from tests.chaos.resp import INCOMPLETE, frame_end, words_of

Where = Literal["before", "reply", "after"]
WHERES: Final[tuple[Where, ...]] = ("before", "reply", "after")
"""Cut before the command is sent; after it was applied, its reply lost; after the reply was passed on."""

_CHUNK: Final = 65_536
_VERB: Final = re.compile(rb"^-- verb: (\w+)", re.M)


@dataclass(frozen=True, slots=True)
class Cut:
    """Harm at one round trip.

    Attributes:
        at: number of the round trip, from 1.
        where: before it is sent, instead of its reply, or after its reply.
        act: done at that point, before anything else is passed on.
        keep: leave the connection as it is after an `after` (for a process that is frozen, not cut off).
    """

    at: int
    where: Where
    act: Callable[[], None]
    keep: bool = False


@dataclass(slots=True, eq=False)
class _Pair:
    """One connection of the process, and ours to the server."""

    down: asyncio.StreamWriter
    up: asyncio.StreamWriter
    owed: deque[int] = field(default_factory=deque)

    def abort(self) -> None:
        """RST to the process; an end in order to the server, which so still gets what was passed on before."""
        raw = self.down.get_extra_info("socket")
        if raw is not None and raw.fileno() >= 0:  # it may have broken by itself
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.down.transport.abort()
        self.up.close()


class Proxy:
    """Stands before Redis for one process.

    Args:
        port: of the server, on the loopback.
        verbs: SHA1 of a script -> its name, to tell round trips apart.

    Attributes:
        trips: how many round trips it has seen.
        names: what they were, in order.
        done: how often harm was done, by kind.
        delay_s: how long each chunk from the server is held back.
        chunk: how many bytes are passed on at a time.
    """

    def __init__(self, port: int, verbs: Mapping[str, str]) -> None:
        self._server_port = port
        self._verbs = verbs
        self._server: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.cut: Cut | None = None
        self.fired = asyncio.Event()
        self.trips = 0
        self.names: list[str] = []
        self.done: Counter[str] = Counter()
        self.delay_s = 0.0
        self.chunk = _CHUNK

    async def start(self) -> int:
        """Listen; the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        self._flowing.set()
        self.reset()
        if self._handlers:
            await asyncio.wait(self._handlers)

    # -- harm ---------------------------------------------------------------------------------------------------

    def reset(self) -> int:
        """RST all connections; how many there were."""
        pairs = list(self._pairs)
        for pair in pairs:
            pair.abort()
        self.done["reset"] += len(pairs)
        return len(pairs)

    def lose_next_reply(self) -> None:
        """The next command is applied, its reply never comes, and its connection is reset."""
        self.cut = Cut(self.trips + 1, "reply", lambda: None)

    def half_open(self) -> None:
        """From now on nothing is passed on, and nobody is told."""
        self._flowing.clear()

    def heal(self) -> None:
        """Pass everything on, at once."""
        self.delay_s, self.chunk = 0.0, _CHUNK
        self._flowing.set()

    # -- passing on -----------------------------------------------------------------------------------------------

    def _accept(self, from_process: asyncio.StreamReader, to_process: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._carry(from_process, to_process))
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)

    async def _carry(self, from_process: asyncio.StreamReader, to_process: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port, limit=2**20)
        except OSError:
            to_process.transport.abort()
            return
        pair = _Pair(to_process, to_server)
        self._pairs.add(pair)
        pumps = [
            asyncio.ensure_future(self._upwards(from_process, pair)),
            asyncio.ensure_future(self._downwards(from_server, pair)),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)  # a connection that broke is what they are here for
        self._pairs.discard(pair)
        for writer in (to_process, to_server):
            writer.close()

    async def _upwards(self, source: asyncio.StreamReader, pair: _Pair) -> None:
        buffer = bytearray()
        while data := await source.read(_CHUNK):
            await self._flowing.wait()
            buffer += data
            start = passed = 0
            while start < len(buffer) and (end := frame_end(buffer, start)) != INCOMPLETE:
                number = self._count(buffer[start:end])
                if self._hits(number, "before"):
                    pair.up.write(bytes(buffer[passed:start]))
                    await pair.up.drain()
                    self._fire(pair)
                    return
                pair.owed.append(number)
                start = end
            pair.up.write(bytes(buffer[passed:start]))
            del buffer[:start]
            await pair.up.drain()

    async def _downwards(self, source: asyncio.StreamReader, pair: _Pair) -> None:
        buffer = bytearray()
        while data := await source.read(_CHUNK):
            await self._flowing.wait()
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            buffer += data
            start = passed = 0
            while start < len(buffer) and (end := frame_end(buffer, start)) != INCOMPLETE:
                number = 0 if not pair.owed or _is_message(buffer, start) else pair.owed.popleft()
                if number and self._hits(number, "reply"):
                    await self._pass_on(pair, bytes(buffer[passed:start]))
                    self._fire(pair)
                    return
                start = end
                if number and self._hits(number, "after"):
                    await self._pass_on(pair, bytes(buffer[passed:start]))
                    passed = start
                    if not self._fire(pair):
                        return
            await self._pass_on(pair, bytes(buffer[passed:start]))
            del buffer[:start]

    async def _pass_on(self, pair: _Pair, data: bytes) -> None:
        for at in range(0, len(data), self.chunk):
            pair.down.write(data[at : at + self.chunk])
            await pair.down.drain()

    # -- counting -------------------------------------------------------------------------------------------------

    def _count(self, frame: bytearray) -> int:
        self.trips += 1
        name, *rest = words_of(frame, 2)
        text = name.decode("ascii", "replace").upper()
        if text == "EVALSHA" and rest:
            text = self._verbs.get(rest[0].decode("ascii", "replace"), text)
        elif text == "EVAL" and rest and (match := _VERB.search(rest[0])):
            text = match[1].decode()
        self.names.append(text)
        return self.trips

    def _hits(self, number: int, where: Where) -> bool:
        return self.cut is not None and self.cut.at == number and self.cut.where == where

    def _fire(self, pair: _Pair) -> bool:
        """Do the harm; whether the connection lives on."""
        cut, self.cut = self.cut, None
        assert cut is not None
        cut.act()
        self.done[f"cut {cut.where}"] += 1
        self.fired.set()
        if cut.keep and cut.where == "after":
            return True
        pair.abort()
        return False


def _is_message(buffer: bytearray, start: int) -> bool:
    """Whether a frame was pushed to a subscriber: nobody asked for it."""
    return buffer[start] in b"*>" and b"message\r\n" in buffer[start : start + 24]
