"""When the next thing falls due, as far as this worker knows.

Told by every reply that carries it and by the timers channel; the loops sleep until then instead of polling.
"""

from __future__ import annotations

import asyncio

from redflow.engines.redis.clock import ServerClock


class Deadline:
    """One time that a loop waits for; it may be moved while the loop sleeps.

    Args:
        clock: the server's time.
        latest_s: how long a loop sleeps at most, seconds, whatever it knows.
    """

    def __init__(self, clock: ServerClock, latest_s: float) -> None:
        self._clock = clock
        self._latest_s = latest_s
        self._at: int | None = 0  # nothing is known yet: look at once
        self._hint: tuple[float, int] | None = None
        self._moved = asyncio.Event()

    def set(self, at_ms: int | None, asked_at: float) -> None:
        """A reply says what the next time is.

        Args:
            at_ms: the time; None: nothing is known to fall due.
            asked_at: when the call was sent (loop time, seconds): a hint that came after it may be news to the reply.
        """
        if self._hint is not None and self._hint[0] >= asked_at:
            at_ms = self._hint[1] if at_ms is None else min(at_ms, self._hint[1])
        self._move(at_ms)

    def bring_forward(self, at_ms: int) -> None:
        """A hint: something falls due at this time, maybe earlier than what is known."""
        self._hint = (asyncio.get_running_loop().time(), at_ms)
        if self._at is None or at_ms < self._at:
            self._move(at_ms)

    def _move(self, at_ms: int | None) -> None:
        """Who sleeps is woken for an earlier time only: at the former one it looks again by itself."""
        earlier = at_ms is not None and (self._at is None or at_ms < self._at)
        self._at = at_ms
        if earlier:
            self._moved.set()

    async def wait(self) -> None:
        """Sleep until the time has come."""
        loop = asyncio.get_running_loop()
        latest = loop.time() + self._latest_s
        while True:
            self._moved.clear()
            left = latest - loop.time()
            if self._at is not None:
                left = min(left, self._clock.seconds_until(self._at) if self._at else 0)
            if left <= 0:
                return
            try:
                async with asyncio.timeout(left):
                    await self._moved.wait()
            except TimeoutError:
                # Timers of the loop may fire a moment early: look again.
                continue
