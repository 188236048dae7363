"""Worker processes that tests start, freeze and kill, and the effects file that tells what they really did."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.support.world import DEADLINE_S, soon

ROOT = Path(__file__).parents[2]


class Effect(NamedTuple):
    """One line of the effects file."""

    pid: int
    run_id: str
    what: str


class Effects:
    """What the functions of all processes noted, in order."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def all(self) -> list[Effect]:
        """Every note so far."""
        if not self.path.exists():
            return []
        # A note that is being written may be seen in part, where it crosses into another page of the file.
        lines = self.path.read_text("utf-8").rpartition("\n")[0].splitlines()
        return [Effect(int(pid), run_id, what) for pid, run_id, what in (line.split(" ", 2) for line in lines)]

    def of(self, run_id: str) -> list[str]:
        """What was noted of one run."""
        return [effect.what for effect in self.all() if effect.run_id == run_id]

    def count(self, run_id: str, what: str) -> int:
        """How often something was noted of a run."""
        return self.of(run_id).count(what)

    def pids(self, run_id: str, what: str) -> list[int]:
        """Which processes noted it."""
        return [effect.pid for effect in self.all() if effect.run_id == run_id and effect.what == what]

    async def shows(self, run_id: str, what: str, times: int = 1) -> None:
        """Wait until something was noted of a run."""
        await soon(lambda: self.count(run_id, what) >= times, f"{times} x {what} of {run_id}")


class WorkerProcess:
    """One process of `tests.support.worker_program`.

    Args:
        url, prefix: the world it works in.
        effects: where it notes what it does.
        die_at: where it kills itself, see the program.
        shards: over how many the prefix is spread; None: as the environment says.
        environment: what it finds in its environment beside that of this process.
    """

    def __init__(
        self,
        url: str,
        prefix: str,
        effects: Effects,
        *,
        lease_ms: int = 400,
        die_at: str = "",
        concurrency: int = 10,
        shards: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log = effects.path.with_name(f"worker-{id(self)}.log")
        config = {
            "url": url, "prefix": prefix, "effects": str(effects.path), "lease_ms": lease_ms, "die_at": die_at,
            "concurrency": concurrency,
        }  # fmt: skip
        env = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
        if shards is not None:
            env["REDFLOW_SHARDS"] = str(shards)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.worker_program", json.dumps(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=env,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    async def ready(self) -> WorkerProcess:
        """Wait until it claims."""
        await soon(lambda: not self.alive or "ready\n" in self.text(), "a worker process")
        assert self.alive, self.text()
        return self

    def text(self) -> str:
        """What it wrote."""
        return self.log.read_text("utf-8", "replace")

    async def death(self, timeout_s: float = DEADLINE_S) -> int:
        """Wait for its end; the return code."""
        await soon(lambda: not self.alive, f"the death of {self.pid}", timeout_s=timeout_s)
        return self._process.returncode

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP: it is there, holds its connections, and does nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    async def stop(self) -> int:
        """SIGTERM, and wait for its orderly end; the return code."""
        self.terminate()
        return await self.death()

    def terminate(self) -> None:
        """SIGTERM."""
        self._process.terminate()

    def discard(self) -> None:
        """Whatever state it is in: gone."""
        if self.alive:
            self._process.kill()
        self._process.wait()


async def start_processes(processes: list[WorkerProcess]) -> None:
    """Wait until all of them claim."""
    await asyncio.gather(*(process.ready() for process in processes))
