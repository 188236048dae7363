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
        self._at: int | None = None
        self._moved = asyncio.Event()

    def set(self, at_ms: int | None) -> None:
        """The next time is this one; None: nothing is known to fall due."""
        if at_ms != self._at:
            self._at = at_ms
            self._moved.set()

    def bring_forward(self, at_ms: int) -> None:
        """Something falls due at this time, maybe earlier than what is known."""
        if self._at is None or at_ms < self._at:
            self.set(at_ms)

    async def wait(self) -> None:
        """Sleep until the time has come."""
        loop = asyncio.get_running_loop()
        latest = loop.time() + self._latest_s
        while True:
            self._moved.clear()
            left = latest - loop.time()
            if self._at is not None:
                left = min(left, self._clock.seconds_until(self._at))
            if left <= 0:
                return
            try:
                async with asyncio.timeout(left):
                    await self._moved.wait()
            except TimeoutError:
                # Timers of the loop may fire a moment early: look again.
                continue
