"""The harness's side of the fork server: processes that it starts, freezes and kills."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from dataclasses import asdict

from tests.chaos.program import Config
from tests.chaos.sources import ROOT, Sources


class Process:
    """One forked process.

    Attributes:
        pid: its id.
        role: worker or client.
        ended: set with the return code when it is gone.
    """

    def __init__(self, pid: int, role: str) -> None:
        self.pid = pid
        self.role = role
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.stopped = False

    @property
    def alive(self) -> bool:
        """Whether it is still there."""
        return not self.ended.done()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it is there."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP."""
        self.stopped = True
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.stopped = False
        self.send(signal.SIGCONT)


class ForkServer:
    """Runs `tests.chaos.forkserver` on some sources; to be used as an async context manager."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._orders = 0
        self._asked: dict[int, tuple[str, asyncio.Future[Process]]] = {}
        self.processes: dict[int, Process] = {}

    async def __aenter__(self) -> ForkServer:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.chaos.forkserver",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env=self._sources.environment(),
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        if self._reader is not None:
            await self._reader

    async def spawn(self, config: Config) -> Process:
        """Fork a process."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._orders += 1
        future: asyncio.Future[Process] = asyncio.get_running_loop().create_future()
        self._asked[self._orders] = (config.role, future)
        order = json.dumps({"id": self._orders, "config": asdict(config)})
        self._process.stdin.write(order.encode() + b"\n")
        return await future

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            told = json.loads(line)
            if "dead" in told:
                process = self.processes.pop(told["dead"], None)
                if process is not None and not process.ended.done():
                    process.ended.set_result(told["status"])
            else:
                role, future = self._asked.pop(told["id"])
                process = self.processes[told["pid"]] = Process(told["pid"], role)
                if not future.done():
                    future.set_result(process)
        for _, future in self._asked.values():
            if not future.done():
                future.set_exception(RuntimeError("the fork server is gone"))
