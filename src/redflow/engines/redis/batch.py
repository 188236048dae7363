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
_BATCH_BYTES: Final = 1 << 20
"""No batch grows beyond this by its payloads: a script must not stop the server for long."""
PART: Final = 25
"""As many leave at once, so that the server works on them while the loop goes on with what makes the others."""
_FLUSHES_IN_FLIGHT: Final = 4


class Batcher(Generic[Item, Result]):
    """Collects items and writes them together.

    Args:
        write: writes a batch and returns one result for each item; if it raises, every item of the batch fails. What
            it does before it returns its awaitable is done at once.
        weigh: bytes of an item's payload.
    """

    def __init__(self, write: Callable[[list[Item]], Awaitable[list[Result]]], weigh: Callable[[Item], int]) -> None:
        self._write = write
        self._weigh = weigh
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._planned = False
        self._flushes: set[asyncio.Task[None]] = set()

    def submit(self, item: Item) -> asyncio.Future[Result]:
        """Write an item with the next batch."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        if len(self._flushes) < _FLUSHES_IN_FLIGHT:
            if len(self._waiting) >= PART:
                self._start_flush()
            elif not self._planned:
                self._planned = True
                loop.call_soon(self._flush_rest)
        return future

    def send(self, item: Item) -> None:
        """Write an item with the next batch; nobody waits for it."""
        self.submit(item).add_done_callback(_look_at)

    def _flush_rest(self) -> None:
        self._planned = False
        self._start_flush()

    def _start_flush(self) -> None:
        while self._waiting and len(self._flushes) < _FLUSHES_IN_FLIGHT:
            batch = self._next_batch()
            task = asyncio.get_running_loop().create_task(self._finish(self._write([item for item, _ in batch]), batch))
            self._flushes.add(task)
            task.add_done_callback(self._flush_done)

    def _next_batch(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        count = weight = 0
        for item, _ in self._waiting[:BATCH_CAP]:
            weight += self._weigh(item)
            if weight > _BATCH_BYTES and count:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    async def _finish(self, results: Awaitable[list[Result]], batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            answers = await results
        except BaseException as exc:
            for _, future in batch:
                if not future.done():
                    future.set_exception(exc)
            if not isinstance(exc, Exception):
                raise
            return
        for (_, future), result in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(result)

    def _flush_done(self, task: asyncio.Task[None]) -> None:
        self._flushes.discard(task)
        self._start_flush()


def _look_at(done: asyncio.Future[Result]) -> None:
    """A failure that nobody waits for is logged where the batch is written, not reported by asyncio."""
    if not done.cancelled():
        done.exception()
