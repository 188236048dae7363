"""Asking for a reply instead of sleeping until it comes.

A process that sleeps is woken by the kernel, which takes 20 to 50 us on a virtual machine: as long as the server needs
for a small script. Whoever has nothing else to do, and knows that the reply is near, is faster if it looks again and
again, and hardly busier: falling asleep and being woken costs the processor as much. Kernels do the same for their
guests and for network cards (Linux: halt polling of KVM, `busy_poll` of sockets), and stop, as this does, where it
does not pay.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

LONGEST_S: Final = 0.0005
"""A reply that takes longer is worth a sleep."""
_MISSES: Final = 4
"""After so many replies in a row that took longer the server counts as far away, or busy."""
_REST: Final = 64
"""So many commands are then sent without polling; twice as many after each trial that fails again."""
_LONGEST_REST: Final = 4096


class Poller:
    """Keeps the event loop from sleeping while a reply is near.

    Args:
        wanted: whether it would pay now; asked at each send.
        owed: whether a reply is still owed.
    """

    def __init__(self, wanted: Callable[[], bool], owed: Callable[[], bool]) -> None:
        self._wanted = wanted
        self._owed = owed
        self._loop: asyncio.AbstractEventLoop | None = None
        """Where it polls right now."""
        self._until = 0.0
        self._missed = 0
        self._skip = 0
        self._rest = _REST

    def sent(self) -> None:
        """A command has left."""
        if self._skip:
            self._skip -= 1
        elif self._wanted():
            self._until = time.perf_counter() + LONGEST_S
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
                self._loop.call_soon(self._look)

    def _look(self) -> None:
        assert self._loop is not None
        if not self._owed():
            self._missed, self._rest, self._loop = 0, _REST, None
        elif time.perf_counter() < self._until:
            self._loop.call_soon(self._look)  # the next turn of the loop asks the sockets and does not sleep
        else:
            self._loop = None
            self._missed += 1
            if self._missed >= _MISSES:
                self._skip, self._missed = self._rest, _MISSES - 1
                self._rest = min(2 * self._rest, _LONGEST_REST)
