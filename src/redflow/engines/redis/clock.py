"""The server's time, told by this process's monotonic clock from the replies that carried it.

Wall clocks of workers may be wrong by hours; nothing here reads one. A reply tells the time of some moment between its
question and its arrival. One that was long under way, or is looked at late, would set the clock back, and what sleeps
by it would wake too early: so an estimate that is possible by a reply stays as it is.
"""

from __future__ import annotations

import time


class ServerClock:
    """Estimates the server's time; behind it by what the quickest reply was under way, ahead by the drift since one."""

    def __init__(self) -> None:
        self._offset_ms: float | None = None

    @staticmethod
    def mark() -> float:
        """This moment, for `observe`: taken before the server is asked."""
        return time.monotonic()

    def observe(self, server_now: int, asked_at: float) -> None:
        """A reply says what time it was.

        Args:
            server_now: the time of the server, epoch ms.
            asked_at: the moment (`mark`) before it was asked.
        """
        least = server_now - time.monotonic() * 1000
        most = server_now + 1 - asked_at * 1000  # the server tells whole ms
        self._offset_ms = least if self._offset_ms is None else min(max(self._offset_ms, least), most)

    @property
    def known(self) -> bool:
        """Whether any reply has told the time yet."""
        return self._offset_ms is not None

    def now_ms(self) -> int:
        """The server's time, epoch ms.

        Raises:
            RuntimeError: no reply has told the time yet.
        """
        if self._offset_ms is None:
            raise RuntimeError("the server's time is not known yet")
        return int(time.monotonic() * 1000 + self._offset_ms)

    def seconds_until(self, at_ms: int) -> float:
        """How long until a time of the server, seconds; 0 if it is over."""
        return max(0.0, (at_ms - self.now_ms()) / 1000)
