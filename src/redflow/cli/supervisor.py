"""Keeps worker processes running: one that dies is replaced, after longer and longer pauses when it dies soon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final, Protocol

from redflow.cli import exits
from redflow.cli.exits import Refused
from redflow.cli.process import WorkerProcess
from redflow.cli.signals import StopSignals, wait_first
from redflow.cli.wire import NotStarted, Ready, Report, WorkerSettings

_STABLE_S: Final = 60.0
"""A process that ran this long was healthy: its end says nothing about the next one."""
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0


class Backoff:
    """How long to wait before a process that died is replaced."""

    def __init__(self) -> None:
        self._failures = 0
        self._started = time.monotonic()

    def started(self) -> None:
        """A process was started now."""
        self._started = time.monotonic()

    def next_pause_s(self) -> float:
        """It has died: seconds to wait; doubled each time, from the start again after a minute of health."""
        stable = time.monotonic() - self._started > _STABLE_S
        self._failures = 0 if stable else self._failures
        self._failures += 1
        return min(_FIRST_PAUSE_S * 2.0 ** (self._failures - 1), _LONGEST_PAUSE_S)


class Watcher(Protocol):
    """What the supervisor tells people."""

    def worker_ready(self, pid: int, ready: Ready) -> None:
        """A worker process claims."""
        ...

    def worker_died(self, pid: int, code: int, why: str, pause_s: float) -> None:
        """A worker process ended though nobody asked; it is replaced after the pause."""
        ...

    def worker_hangs(self, pid: int) -> None:
        """All threads of a worker process hang."""
        ...

    def worker_drained(self, pid: int) -> None:
        """A worker process was drained and has ended; it is not replaced."""
        ...

    def stopping(self, grace_s: float) -> None:
        """The end has begun."""
        ...

    def worker_killed(self, pid: int) -> None:
        """A worker process had to be killed."""
        ...


class Supervisor:
    """Several worker processes of the same settings.

    Args:
        settings: how each of them runs.
        processes: how many.
        watcher: is told what happens.
    """

    def __init__(self, settings: WorkerSettings, processes: int, watcher: Watcher) -> None:
        self._settings = settings
        self._processes = processes
        self._watcher = watcher
        self._obstacles: dict[int, NotStarted] = {}
        self._was_ready = False
        self._over = asyncio.Event()
        self._code = exits.OK
        self._refused: NotStarted | None = None

    async def run(self) -> int:
        """Keep the processes running until a signal comes, or all were drained; returns the command's exit code.

        Raises:
            Refused: the first start failed for a reason that a restart would not mend.
        """
        signals = StopSignals()
        keepers = [asyncio.create_task(self._keep(signals)) for _ in range(self._processes)]
        for keeper in keepers:
            keeper.add_done_callback(lambda keeper: self._keeper_ended(keeper, keepers))
        await wait_first(signals.first, self._over)
        if not self._over.is_set():
            self._watcher.stopping(self._settings.grace_ms / 1000)
            self._over.set()
        await asyncio.gather(*keepers)
        if self._refused is not None:
            raise Refused(self._refused.text)
        return self._code

    def _keeper_ended(self, keeper: asyncio.Task[None], keepers: Sequence[asyncio.Task[None]]) -> None:
        """One of the processes is replaced no more: it was drained, or there is a defect here."""
        if keeper.cancelled() or keeper.exception() is not None or all(other.done() for other in keepers):
            self._over.set()

    async def _keep(self, signals: StopSignals) -> None:
        """One process after another, until the end."""
        backoff = Backoff()
        while not self._over.is_set():
            backoff.started()
            process = await WorkerProcess.start(self._settings, self._report)
            await wait_first(self._over, process.ended)
            if not process.ended.is_set():
                if await process.stop(signals) < 0:
                    self._watcher.worker_killed(process.pid)
                return
            code = await process.wait()
            if code == exits.WORKER_DRAINED:
                self._watcher.worker_drained(process.pid)
                return
            pause_s = backoff.next_pause_s()
            self._judge_death(process.pid, code, pause_s)
            await wait_first(self._over, timeout_s=pause_s)

    def _report(self, process: WorkerProcess, report: Report) -> None:
        if isinstance(report, Ready):
            self._was_ready = True
            self._watcher.worker_ready(process.pid, report)
        elif isinstance(report, NotStarted):
            self._obstacles[process.pid] = report

    def _judge_death(self, pid: int, code: int, pause_s: float) -> None:
        """A process ended though nobody asked: give up, or leave it to be replaced."""
        if self._over.is_set():
            return
        obstacle = self._obstacles.pop(pid, None)
        if code == exits.WORKER_HANGS:
            self._watcher.worker_hangs(pid)
            self._code = exits.WORKER_HANGS
            self._over.set()
        elif obstacle is not None and not self._was_ready:
            self._refused = obstacle
            self._over.set()
        else:
            self._watcher.worker_died(pid, code, "" if obstacle is None else obstacle.text, pause_s)
