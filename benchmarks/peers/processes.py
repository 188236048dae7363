"""The processes of one measurement: the worker, the client that obeys orders, and the CPU time they take."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from benchmarks.harness import BenchmarkError
from benchmarks.peers.environments import ROOT, Environment

Answer = Mapping[str, object]
Value = str | int | float | bool

_STOP_WITHIN_S: Final = 10.0
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_LINE_LIMIT: Final = 2**24
_LAST_WORDS: Final = 800


class Program:
    """A started program of a peer, the leader of a process group of its own."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.pid = process.pid
        self._process = process
        self._log = log

    async def ask(self, do: str, *, patience_s: float = 60.0, **order: Value) -> Answer:
        """Give a client an order and return its answer.

        Raises:
            BenchmarkError: it fails, does not answer in time, or is gone.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **order}).encode() + b"\n")
        try:
            async with asyncio.timeout(patience_s):
                answer = await self.answer()
        except TimeoutError:
            raise BenchmarkError(f"{do}: no answer within {patience_s:g} s") from None
        if "error" in answer:
            raise BenchmarkError(f"{do}: {answer['error']}")
        return answer

    async def answer(self) -> Answer:
        """The next line a client says."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            await self._process.wait()
            raise BenchmarkError(f"the client ended with {self._process.returncode}: {self._last_words()}")
        answer: Answer = json.loads(line)
        return answer

    def check_alive(self) -> None:
        """Raise BenchmarkError with its last words if it has ended."""
        if self._process.returncode is not None:
            raise BenchmarkError(f"the worker ended with {self._process.returncode}: {self._last_words()}")

    async def stop(self) -> None:
        """End it in order, and by force what is left of its group after some seconds."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_WITHIN_S):
                    await self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        await self._process.wait()

    def cpu_s(self) -> float:
        """CPU time that it and its children have used, ended ones included, seconds."""
        return sum(map(_cpu_s, _family(self.pid)))

    def _last_words(self) -> str:
        return self._log.read_text("utf-8", errors="replace").strip()[-_LAST_WORDS:]


@asynccontextmanager
async def program(environment: Environment, role: str, config: str, scratch: Path) -> AsyncIterator[Program]:
    """Start a program; it is gone when the block is left."""
    output, name = tempfile.mkstemp(prefix=f"{role}-", suffix=".log", dir=scratch)
    try:
        process = await asyncio.create_subprocess_exec(
            *environment.command,
            role,
            config,
            stdin=asyncio.subprocess.PIPE if role == "client" else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if role == "client" else output,
            stderr=output,
            env=environment.variables,
            cwd=ROOT,
            start_new_session=True,
            limit=_LINE_LIMIT,
        )
    finally:
        os.close(output)
    started = Program(process, Path(name))
    try:
        yield started
    finally:
        await started.stop()


def _family(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text("utf-8").split():
                yield from _family(int(child))


def _cpu_s(pid: int) -> float:
    """User and system time of a process and of the children that it has waited for."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except OSError:
        return 0.0
    fields = stat.rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS_PER_S
