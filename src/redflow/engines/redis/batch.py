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
"""With more there is nothing to win: the server has work."""


class Batcher(Generic[Item, Result]):
    """Collects items and writes them together.

    Args:
        write: writes a batch and returns one result for each item; if it raises, every item of the batch fails. What
            it does before it returns its awaitable is done at once.
        weigh: bytes of an item's payload.
        in_flight: how many batches may be under way; a full one leaves in any case, up to four.
    """

    def __init__(
        self,
        write: Callable[[list[Item]], Awaitable[list[Result]]],
        weigh: Callable[[Item], int],
        in_flight: int = _FLUSHES_IN_FLIGHT,
    ) -> None:
        self._write = write
        self._weigh = weigh
        self._in_flight = in_flight
        self._items: list[Item] = []
        self._futures: list[asyncio.Future[Result] | None] = []
        """What is told of each item; None where nobody waits for it."""
        self._planned = False
        self._flushes: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop

    def submit(self, item: Item) -> asyncio.Future[Result]:
        """Write an item with the next batch."""
        if not self._items:  # once a batch: those who wait for one are of one loop, and the look is dear
            self._loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = self._loop.create_future()
        self._add(item, future)
        return future

    def send(self, item: Item) -> None:
        """Write an item with the next batch; nobody waits for it, so a failure is for whoever writes."""
        if not self._items:
            self._loop = asyncio.get_running_loop()
        self._add(item, None)

    def _add(self, item: Item, future: asyncio.Future[Result] | None) -> None:
        self._items.append(item)
        self._futures.append(future)
        if self._may_start():
            if len(self._items) >= PART:
                self._start_flush()
            elif not self._planned:
                self._planned = True
                self._loop.call_soon(self._flush_rest)

    def _may_start(self) -> bool:
        under_way = len(self._flushes)
        return under_way < self._in_flight or (under_way < _FLUSHES_IN_FLIGHT and len(self._items) >= BATCH_CAP)

    def _flush_rest(self) -> None:
        self._planned = False
        self._start_flush()

    def _start_flush(self) -> None:
        while self._items and self._may_start():
            count = self._next_count()
            items, self._items = self._items[:count], self._items[count:]
            futures, self._futures = self._futures[:count], self._futures[count:]
            try:
                answers = self._write(items)
            except Exception as exc:  # what can't even be sent fails those who wait for it, and nobody else
                answers = _failed(exc)
            task = self._loop.create_task(self._finish(answers, futures))
            self._flushes.add(task)
            task.add_done_callback(self._flush_done)

    def _next_count(self) -> int:
        """How many of those that wait travel together."""
        items = self._items[:BATCH_CAP]
        if sum(map(self._weigh, items)) <= _BATCH_BYTES:
            return len(items)
        weight = 0
        for count, item in enumerate(items):
            weight += self._weigh(item)
            if weight > _BATCH_BYTES and count:
                return count
        return len(items)

    async def _finish(self, results: Awaitable[list[Result]], futures: list[asyncio.Future[Result] | None]) -> None:
        try:
            answers = await results
        except BaseException as exc:
            for future in futures:
                if future is not None and not future.done():
                    future.set_exception(exc)
            if not isinstance(exc, Exception):
                raise
            return
        for future, result in zip(futures, answers, strict=True):
            if future is not None and not future.done():
                future.set_result(result)

    def _flush_done(self, task: asyncio.Task[None]) -> None:
        self._flushes.discard(task)
        self._start_flush()


async def _failed(exc: Exception) -> list[Result]:
    raise exc
