"""Owners and attached processes for the tests of the embedded server, and looks at what they did."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import redis

from tests.support.servers import PORTS, wait_until

# Starts a server at a line on stdin and reports. At the line "stop" it stops the server, at another it ends.
# With "fork" it leaves a forked child behind, which tries to stop the server too and then lives on.
STARTER = """
import json, os, signal, sys
from pathlib import Path
from redflow.engines.redis.embedded import EmbeddedServer
options = json.loads(sys.argv[2])
if options.get("binary"):
    options["binary"] = Path(options["binary"])
forked = options.pop("fork", False)
server = EmbeddedServer(sys.argv[1], **options)
sys.stdin.readline()
server.start()
report = {"owner": server.owner, "url": server.unix_url, "pid": server.pid}
if forked:
    reading, writing = os.pipe()
    report["child"] = os.fork()
    if not report["child"]:
        owned = server.owner
        server.stop()
        os.write(writing, b"y" if owned else b"n")
        signal.pause()
    report["child owns"] = os.read(reading, 1).decode()
print(json.dumps(report), flush=True)
if sys.stdin.readline() == "stop\\n":
    server.stop()
"""


@dataclass
class Starter:
    """A process that starts or attaches to the server of a directory."""

    process: subprocess.Popen[str]
    report: dict[str, object] = field(default_factory=dict)

    @property
    def stdin(self) -> IO[str]:
        assert self.process.stdin is not None
        return self.process.stdin

    def begin(self) -> None:
        print("start", file=self.stdin, flush=True)

    def wait_started(self) -> Starter:
        assert self.process.stdout is not None
        self.report = json.loads(self.process.stdout.readline())
        return self

    @property
    def server_pid(self) -> int:
        return self.pid("pid")

    def pid(self, name: str) -> int:
        pid = self.report[name]
        assert isinstance(pid, int)
        return pid

    def end(self, word: str = "stop") -> None:
        print(word, file=self.stdin, flush=True)
        assert self.process.wait(20) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Starters:
    """Makes starters; none outlives the test."""

    def __init__(self, binary: Path) -> None:
        self.binary = binary
        self.made: list[Starter] = []

    def make(self, directory: Path, **options: object) -> Starter:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                STARTER,
                str(directory),
                json.dumps({"binary": str(self.binary)} | options),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        starter = Starter(process)
        self.made.append(starter)
        return starter

    def start(self, directory: Path, **options: object) -> Starter:
        starter = self.make(directory, **options)
        starter.begin()
        return starter.wait_started()

    def close(self) -> None:
        for starter in self.made:
            starter.kill()
            if "child" in starter.report:
                os.kill(starter.pid("child"), signal.SIGKILL)
            for pipe in (starter.process.stdin, starter.process.stdout):
                assert pipe is not None
                pipe.close()


def write(url: str, value: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.set("key", value)


def read(url: str) -> object:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return client.get("key")


def wait_gone(pid: int, timeout_s: float = 15.0) -> None:
    """Return once a process that is not our child has ended."""
    if sys.platform != "linux":
        wait_until(lambda: not _runs(pid), timeout_s=timeout_s, what=f"the end of process {pid}")
        return
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ended, _, _ = select.select([process], [], [], timeout_s)
    finally:
        os.close(process)
    assert ended, f"process {pid} still runs"


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def free_port() -> int:
    for port in PORTS:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


def fake_binary(path: Path, version: str, then: str = "exit 3") -> Path:
    """A program that says it is a server of that version and then runs a piece of shell."""
    path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && {{ echo "{version}"; exit 0; }}\n{then}\n')
    path.chmod(0o755)
    return path
