"""A worker process, as the command that started it sees it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from redflow.cli.signals import StopSignals, wait_first
from redflow.cli.wire import Order, Report, WorkerSettings, report_from_json

_LAST_WORDS_S: Final = 1.0
"""How long reports may still come after the process has ended (another process may hold its socket), seconds."""

_HURRIED_S: Final = 3.0
"""How long a process may take to hand back its runs after the order "now", seconds."""

_END_S: Final = 5.0
"""How long the end of a process may take beyond its grace periods, seconds."""

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
"""What ends a worker process; it starts with them held back and releases them when it can take them."""

OnReport = Callable[["WorkerProcess", Report], None]
"""What is called with each report of a process."""


class WorkerProcess:
    """A running worker process; made by `start`.

    Attributes:
        pid: its process id.
        ended: set when it has ended and all its reports were handled.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        channel: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        on_report: OnReport,
        grace_s: float,
    ) -> None:
        self.pid = process.pid
        self._process = process
        self._reader, self._writer = channel
        self._on_report = on_report
        self._grace_s = grace_s
        self.ended = asyncio.Event()
        self._watching = asyncio.create_task(self._watch())

    @classmethod
    async def start(cls, settings: WorkerSettings, on_report: OnReport, *, interactive: bool = False) -> WorkerProcess:
        """Start a worker process.

        Args:
            settings: how it runs.
            on_report: called with each of its reports.
            interactive: leave it the terminal, so that `breakpoint()` works in a handler. Otherwise it is a process
                group of its own: Ctrl-C reaches the command only, and not what steps have started.
        """
        ours, theirs = socket.socketpair()
        # Not from the current directory (-P): a types.py there would be taken for Python's. The process itself
        # makes it importable, once all it needs is imported. Names of modules are for people who look at `ps`.
        try:
            with theirs, _held_back(_STOP_SIGNALS):
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-P", "-m", "redflow.cli.child", str(theirs.fileno())),
                    *(module.name for module in settings.modules),
                    stdin=None if interactive else subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    process_group=None if interactive else 0,
                )
        except BaseException:
            ours.close()
            raise
        reader, writer = await asyncio.open_connection(sock=ours, limit=2**24)
        writer.write(f"{settings.to_json()}\n".encode())
        return cls(process, (reader, writer), on_report, settings.grace_ms / 1000)

    async def wait(self) -> int:
        """Wait until it has `ended`; its exit code, negative for a signal."""
        return await asyncio.shield(self._watching)

    async def stop(self, signals: StopSignals) -> int:
        """End it: runs may go on for the grace period, what is left is handed back.

        Args:
            signals: the second one since the start of the command has it hand back everything now, the third one
                kills it.

        Returns:
            Its exit code, negative for a signal; -SIGKILL when it did not end by itself.
        """
        self._order("stop")
        if await self._ends_within(2 * self._grace_s + _END_S, signals.second):
            return await self.wait()
        self._order("now")
        if not await self._ends_within(_HURRIED_S, signals.third):
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        return await self.wait()

    def _order(self, order: Order) -> None:
        if not self._writer.is_closing():
            self._writer.write(f"{order}\n".encode())

    async def _ends_within(self, seconds: float, unless: asyncio.Event) -> bool:
        await wait_first(self.ended, unless, timeout_s=seconds)
        return self.ended.is_set()

    async def _watch(self) -> int:
        reading = asyncio.create_task(self._read_reports())
        try:
            code = await self._process.wait()
            await asyncio.wait({reading}, timeout=_LAST_WORDS_S)
        finally:
            reading.cancel()
            self._writer.close()
            self.ended.set()
        if reading.done() and not reading.cancelled():
            reading.result()
        return code

    async def _read_reports(self) -> None:
        with contextlib.suppress(ConnectionError):  # it died; perhaps before it had read what it was sent
            async for line in self._reader:
                self._on_report(self, report_from_json(line.decode()))


@contextlib.contextmanager
def _held_back(numbers: Iterable[signal.Signals]) -> Iterator[None]:
    """Hold back signals from this thread, and from processes that it starts meanwhile until they release them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        # Not back to the former mask: while one start awaits its end another begins, and would restore this one's.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
