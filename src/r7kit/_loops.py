"""Things that belong to one event loop, such as connections: made on first use, closed when the loop ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class PerLoop(Generic[K, T]):
    """One thing per event loop and key.

    A program may use task flows from several event loops, one after the other or in threads; a connection serves the
    loop it was made in only. `asyncio.run` and its like shut down open async generators before they close their loop,
    so such a generator is what closes the things.

    Args:
        make: makes the thing of a key; opens nothing.
        close: closes it.
    """

    def __init__(self, make: Callable[[K], T], close: Callable[[T], Awaitable[object]]) -> None:
        self._make = make
        self._close = close
        self._things: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[K, T]] = WeakKeyDictionary()
        self._closers: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = WeakKeyDictionary()

    async def get(self, key: K) -> T:
        """The thing of this loop and key."""
        loop = asyncio.get_running_loop()
        things = self._things.get(loop)
        if things is None:
            things = self._things[loop] = {}
            closer = self._closers[loop] = self._close_at_end(things)
            await anext(closer)
        if key not in things:
            things[key] = self._make(key)
        return things[key]

    async def close(self) -> None:
        """Close the things of this loop now; later uses make new ones."""
        loop = asyncio.get_running_loop()
        self._things.pop(loop, None)
        closer = self._closers.pop(loop, None)
        if closer is not None:
            await closer.aclose()

    async def _close_at_end(self, things: dict[K, T]) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            while things:
                await self._close(things.popitem()[1])
