"""Ctrl-C and SIGTERM: the first asks for an orderly end, the second for a quick one, the third kills."""

from __future__ import annotations

import asyncio
import signal
from typing import Final

_NUMBERS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """The signals that end a command, counted from the construction on; belongs to the running event loop.

    Attributes:
        first: end in order.
        second: end at once; what runs is handed back.
        third: don't wait for anybody.
    """

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self.third = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in _NUMBERS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup: the command outlives its terminal
            loop.add_signal_handler(number, self.ask)

    def ask(self) -> None:
        """Count one signal."""
        events = (self.first, self.second, self.third)
        next((event for event in events if not event.is_set()), self.third).set()


async def wait_first(*events: asyncio.Event, timeout_s: float | None = None) -> bool:
    """Wait until one of the events is set; False when none was within `timeout_s` seconds."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    done, waiting = await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    for wait in waiting:
        wait.cancel()
    return bool(done)
