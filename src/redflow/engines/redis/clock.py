"""The server's time, told by this process's monotonic clock from the last reply that carried it.

Wall clocks of workers may be wrong by hours; nothing here reads one.
"""

from __future__ import annotations

import time


class ServerClock:
    """Estimates the server's time; never ahead of it by more than its drift since the last reply."""

    def __init__(self) -> None:
        self._offset_ms: float | None = None

    def observe(self, server_now: int) -> None:
        """A reply that just arrived says what time it is."""
        self._offset_ms = server_now - time.monotonic() * 1000

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
