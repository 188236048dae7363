"""Group commit: what coroutines want to write in one tick of the loop travels in one script call.

No timers: when idle a write leaves at once; under load, while flushes are under way, the next batch grows by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCH_CAP: Final = 100
_FLUSHES_IN_FLIGHT: Final = 2


class Batcher(Generic[Item, Result]):
    """Collects items and writes them together.

    Args:
        write: writes a batch and returns one result for each item; if it raises, every item of the batch fails.
    """

    def __init__(self, write: Callable[[list[Item]], Awaitable[list[Result]]]) -> None:
        self._write = write
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._planned = False
        self._flushes: set[asyncio.Task[None]] = set()

    def submit(self, item: Item) -> asyncio.Future[Result]:
        """Write an item with the next batch."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        if not self._planned and len(self._flushes) < _FLUSHES_IN_FLIGHT:
            self._planned = True
            loop.call_soon(self._start_flush)
        return future

    def send(self, item: Item) -> None:
        """Write an item with the next batch; nobody waits for it."""
        self.submit(item).add_done_callback(_look_at)

    def _start_flush(self) -> None:
        self._planned = False
        if not self._waiting or len(self._flushes) >= _FLUSHES_IN_FLIGHT:
            return
        batch, self._waiting = self._waiting[:BATCH_CAP], self._waiting[BATCH_CAP:]
        task = asyncio.get_running_loop().create_task(self._flush(batch))
        self._flushes.add(task)
        task.add_done_callback(self._flush_done)
        if self._waiting:
            self._start_flush()

    async def _flush(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._write([item for item, _ in batch])
        except BaseException as exc:
            for _, future in batch:
                if not future.done():
                    future.set_exception(exc)
            if not isinstance(exc, Exception):
                raise
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)

    def _flush_done(self, task: asyncio.Task[None]) -> None:
        self._flushes.discard(task)
        self._start_flush()


def _look_at(done: asyncio.Future[Result]) -> None:
    """A failure that nobody waits for is logged where the batch is written, not reported by asyncio."""
    if not done.cancelled():
        done.exception()
