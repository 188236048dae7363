"""Turns at a mass of work that many workers find at the same time: very many runs due, or expired, at one instant."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from redflow.engines.redis.connection import Connection
from redflow.errors import QueueFullError

TURN_MS: Final = 3
"""How long no other chunk begins; a chunk of 100 runs keeps the server for less than half of it."""
_LOOK_EVERY_S: Final = 0.05


class Turns:
    """Lets one worker of a prefix at a time go on with a mass of work, chunk by chunk, and the server breathe between.

    Chunks of many workers would stand in line in the server, and whatever others ask for behind them. So after a first
    chunk that did not reach the end a worker takes a turn before each further one. Whoever has had the last turn comes
    back as soon as it is over; the others look now and then, and one of them follows when he stays away.

    Args:
        connection: of the prefix.
        key: the mark of a turn under way; it goes by itself.
    """

    def __init__(self, connection: Connection, key: str) -> None:
        self._connection = connection
        self._key = key
        self._over_at = 0.0

    async def take(self) -> None:
        """Wait for a turn and take it."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._over_at - loop.time()))
        while True:
            if await self._is_free():
                self._over_at = loop.time() + (TURN_MS + 1) / 1000  # a TTL of whole ms may last one longer
                return
            await asyncio.sleep(_LOOK_EVERY_S * (0.5 + random.random()))

    async def _is_free(self) -> bool:
        try:
            return await self._connection.read("SET", self._key, "1", "NX", "PX", TURN_MS) is not None
        except QueueFullError:
            return True  # what the chunks do may be what makes room
