"""A worker as a user starts one, `redflow worker`, in processes of their own that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self

COMMAND: Final = (
    *(sys.executable, "-m", "redflow", "worker", "examples.orders.workflows"),
    *("--concurrency", "20"),
)
"""What a user would type in the directory of the repository."""

_STOP_S: Final = 15.0
_REPOSITORY: Final = Path(__file__).resolve().parents[2]


class WorkerCommand:
    """`redflow worker examples.orders.workflows`, with everything it prints in a log.

    The command watches the process that holds the runs, so there are two processes to kill.
    """

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self._dead = asyncio.create_task(self._read_all())

    @classmethod
    async def start(cls, *, url: str, directory: Path, name: str) -> Self:
        """Start one.

        Args:
            url: of the server.
            directory: where the workflow leaves its effects, and this its log.
            name: of the log file.
        """
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            cwd=_REPOSITORY,
            env={**os.environ, "REDIS_URL": url, "REDFLOW_APP": "orders", "ORDERS_DIR": str(directory)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        return cls(process, directory / f"{name}.log")

    async def kill(self, holders: Iterable[int]) -> None:
        """SIGKILL for the processes that hold the runs and for the command; returns when all are dead.

        Args:
            holders: the processes that hold the runs: they write the effects.
        """
        for pid in holders:  # first, so that nobody can tell them to end in order
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self.ended()

    async def stop(self) -> int:
        """SIGTERM; returns the exit code, negative for a signal: -9 if it did not end in time."""
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await self.ended()
        except TimeoutError:
            await self.kill(())
        return await self._process.wait()

    async def ended(self) -> None:
        """Wait until all its processes are dead: each of them has the pipe open that its log comes from."""
        await asyncio.shield(self._dead)

    def log_tail(self) -> str:
        """The last lines it printed."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])

    async def _read_all(self) -> None:
        assert self._process.stdout is not None
        with self._log.open("wb", buffering=0) as log:
            while data := await self._process.stdout.read(1 << 16):
                log.write(data)
        await self._process.wait()
