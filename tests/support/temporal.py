"""A real Temporal dev server for the tests, on a free port: started, killed and restarted as a test needs it."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client

from tests.support.servers import GUARDIAN, _free_port

START_TIMEOUT_S = 40.0

OTHER_NAMESPACE = "other"
"""A namespace that the servers have beside `default`."""


def temporal_binary() -> Path:
    """The dev server's program, from the development environment."""
    return Path(sys.prefix) / "bin" / "temporal"


def test_server_binary() -> Path:
    """The program of the server that skips time."""
    return Path(sys.prefix) / "bin" / "temporal-test-server"


class TemporalProcess:
    """A Temporal dev server.

    Args:
        durable: keep its state in a file, so that it survives kill() and start().
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="r7kit-temporal-", dir="/tmp"))
        self._durable = durable
        self._port = 0
        self._server: subprocess.Popen[bytes] | None = None
        self._guardian: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> TemporalProcess:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self._port}"

    @property
    def log(self) -> str:
        """What it wrote."""
        path = self._directory / "temporal.log"
        return path.read_text("utf-8", errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start it and return when workflows can be started; on the same port and data if it ran before."""
        for _ in range(3):
            if self._port == 0 or not self._durable:
                self._port = _free_port()
            self._launch()
            if self._wait():
                return
            self.kill()
        raise RuntimeError(f"the Temporal server does not answer:\n{self.log[-2000:]}")

    def kill(self) -> None:
        """SIGKILL. start() brings it back, with its data if it is durable."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None
        if self._guardian is not None:
            assert self._guardian.stdin is not None
            with self._guardian.stdin as pipe:
                pipe.write(b"\n")
            self._guardian.wait()
            self._guardian = None

    def stop(self) -> None:
        """Kill it and remove its directory."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _launch(self) -> None:
        command = [str(temporal_binary()), "server", "start-dev", "--headless", "--ip", "127.0.0.1"]
        command += ["--port", str(self._port), "--log-level", "error"]
        command += ["--namespace", OTHER_NAMESPACE]
        if self._durable:
            command += ["--db-filename", str(self._directory / "temporal.db")]
        for name, kind in (("R7Note", "Keyword"), ("R7Count", "Int")):
            command += ["--search-attribute", f"{name}={kind}"]
        with (self._directory / "temporal.log").open("ab") as log:
            self._server = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._guardian = subprocess.Popen(
            ["/bin/sh", "-c", GUARDIAN, "guardian", str(self._server.pid), str(self._directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _wait(self) -> bool:
        assert self._server is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._server.poll() is None:
            if asyncio.run(_answers(self.address)):
                return True
            time.sleep(0.05)
        return False


async def _answers(address: str) -> bool:
    try:
        client = await Client.connect(address)
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="default"))
    except Exception:
        return False
    return True
