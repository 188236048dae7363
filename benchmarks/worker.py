"""The worker of the benchmarks: a process of its own, and the handle by which a benchmark drives it.

The process imports everything, says so, and waits for orders on stdin: `start`, `usage`, `stop`. Each is answered by
one line of JSON with the CPU time it has used. Its parent's end is the end of stdin, and so its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import cProfile
import importlib
import json
import logging
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks.harness import BenchmarkError, LoopKind
from benchmarks.workflows import APP
from redflow import StartWorkerOptions, WorkerHandle, WorkflowRegistry, start_worker
from redflow._collector import spare_collector

_ROOT: Final = Path(__file__).parent.parent
_ANSWER_WITHIN_S: Final = 30.0

WORKFLOWS: Final = "benchmarks.workflows"
"""The workflows that most benchmarks measure with."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How the worker process runs.

    Attributes:
        url: of the server.
        prefix: of all keys.
        concurrency: slots.
        loop: event loop.
        profile: file for its cProfile, or None.
        workflows: module whose REGISTRY it serves.
    """

    url: str
    prefix: str
    concurrency: int
    loop: LoopKind = "asyncio"
    profile: str | None = None
    workflows: str = WORKFLOWS


def run_on(loop: LoopKind) -> asyncio.Runner:
    """A runner with the event loop that was asked for."""
    if loop == "asyncio":
        return asyncio.Runner()
    import uvloop

    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


# --- the benchmark's side ------------------------------------------------------------------------------------------


class WorkerProcess:
    """A started worker process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def start(self) -> None:
        """Start claiming; returns once the worker is registered and listens."""
        await self._ask("start")

    async def cpu_s(self) -> float:
        """CPU time the process has used so far, all threads, user and system, seconds."""
        return await self._ask("usage")

    async def stop(self) -> None:
        """Stop the worker and wait for the end of its process."""
        await self._ask("stop")
        await self._process.wait()

    async def _ask(self, order: str) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(order.encode() + b"\n")
        await self._process.stdin.drain()
        return await self.answer()

    async def answer(self) -> float:
        """The next answer: CPU seconds used."""
        assert self._process.stdout is not None
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            line = await self._process.stdout.readline()
        if not line:
            raise BenchmarkError("the worker process is gone; its log is above")
        reply: dict[str, float] = json.loads(line)
        return reply["cpu_s"]

    async def end(self) -> None:
        """Kill what is still there."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def worker_process(settings: WorkerSettings) -> AsyncIterator[WorkerProcess]:
    """A worker process that has loaded everything and waits for `start`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.worker",
        json.dumps(asdict(settings)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
    )
    worker = WorkerProcess(process)
    try:
        await worker.answer()
        yield worker
        if process.returncode is None:
            await worker.stop()
    finally:
        await worker.end()


# --- the process itself --------------------------------------------------------------------------------------------


async def _serve(settings: WorkerSettings) -> None:
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    worker: WorkerHandle | None = None
    registry: WorkflowRegistry = importlib.import_module(settings.workflows).REGISTRY
    _say()
    while True:
        order = (await orders.readline()).decode().strip()
        if order == "start":
            options = StartWorkerOptions(
                app=APP,
                url=settings.url,
                prefix=settings.prefix,
                registry=registry,
                concurrency=settings.concurrency,
            )
            worker = await start_worker(options)
        elif order != "usage":
            if worker is not None:
                await worker.stop()
            if order == "stop":
                _say()
            return
        _say()


def _say() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cpu_s": used.ru_utime + used.ru_stime}), flush=True)


def main() -> None:
    """Run the worker process; its settings are the first argument, as JSON."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    settings = WorkerSettings(**json.loads(sys.argv[1]))
    profile = cProfile.Profile() if settings.profile is not None else None
    spare_collector()  # as `redflow worker` does
    with run_on(settings.loop) as runner:
        if profile is None or settings.profile is None:
            runner.run(_serve(settings))
        else:
            profile.runcall(runner.run, _serve(settings))
            profile.dump_stats(settings.profile)


if __name__ == "__main__":
    main()
