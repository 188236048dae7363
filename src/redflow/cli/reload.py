"""The session of `redflow dev`: one worker process at a time, replaced when its source changes."""

from __future__ import annotations

from typing import Final

from redflow.cli import exits, output
from redflow.cli.exits import Refused
from redflow.cli.process import WorkerProcess
from redflow.cli.signals import StopSignals, wait_first
from redflow.cli.supervisor import Backoff
from redflow.cli.watch import SourceWatch
from redflow.cli.wire import Loaded, NotStarted, Ready, Reason, Report, WorkerSettings

_WRONG_COMMAND: Final[tuple[Reason, ...]] = ("unknown_module", "no_workflows", "no_server")
"""At the first start these mean that the command was not what its user meant."""


class DevSession:
    """Runs a worker until a signal comes.

    Args:
        settings: how the worker runs.
        signals: end the session.
    """

    def __init__(self, settings: WorkerSettings, signals: StopSignals) -> None:
        self._settings = settings
        self._signals = signals
        self._watch = SourceWatch()
        self._lines = output.WorkerLines()
        self._backoff = Backoff()
        self._obstacle: NotStarted | None = None
        self._begun = False
        """Whether there was a worker, or the source of one that can be mended."""

    async def run(self) -> int:
        """The session; returns the exit code.

        Raises:
            Refused: there is no such module, no workflow in it, or no server.
        """
        try:
            while not self._signals.first.is_set():
                await self._one_worker()
        finally:
            await self._watch.close()
        return exits.OK

    async def _one_worker(self) -> None:
        """A worker process from its start to its end, and the wait until it makes sense to start another one."""
        self._obstacle = None
        self._watch.begin()
        self._backoff.started()
        process = await WorkerProcess.start(self._settings, self._report, interactive=True)
        await wait_first(self._signals.first, self._watch.changed, process.ended)
        if process.ended.is_set():
            await self._after_end(process.pid, await process.wait())
            return
        if self._signals.first.is_set():
            self._lines.stopping(self._settings.grace_ms / 1000)
        else:
            output.dev_reloads(self._watch.files)
        if await process.stop(self._signals) < 0:
            self._lines.worker_killed(process.pid)

    def _report(self, process: WorkerProcess, report: Report) -> None:
        match report:
            case Loaded():
                self._watch.add(report.directories)
            case Ready():
                self._begun = True
                self._lines.worker_ready(process.pid, report)
            case NotStarted():
                self._obstacle = report

    async def _after_end(self, pid: int, code: int) -> None:
        """The process ended though nobody asked."""
        if self._signals.first.is_set():
            return
        obstacle = self._obstacle
        if obstacle is not None and not self._begun and obstacle.reason in _WRONG_COMMAND:
            raise Refused(obstacle.text)
        self._begun = True
        if obstacle is not None and obstacle.reason != "no_server":
            output.dev_obstacle(obstacle)
            await wait_first(self._signals.first, self._watch.changed)
            return
        pause_s = self._backoff.next_pause_s()
        self._lines.worker_died(pid, code, "" if obstacle is None else obstacle.text, pause_s)
        await wait_first(self._signals.first, self._watch.changed, timeout_s=pause_s)
