"""Processes around one queue, on either engine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from r7kit import config
from tests.support.world import soon

ROOT = Path(__file__).parents[3]


def arguments(queue: str) -> list[str]:
    """What the programs are told of the settings."""
    settings = config.current()
    address = settings.temporal_address if settings.engine == "temporal" else ""
    return [settings.engine, settings.redis_url, address, settings.stream_default, queue]


class Program:
    """A process of a program, whose output goes into a file."""

    def __init__(self, module: str, arguments: Sequence[str], log: Path) -> None:
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], stdout=out, stderr=subprocess.STDOUT, cwd=ROOT
            )

    def text(self) -> str:
        """What it wrote."""
        return self.log.read_text("utf-8", "replace")

    async def says(self, text: str) -> None:
        """Wait until it has written something."""
        await soon(lambda: text in self.text() or self.process.poll() is not None, f"{text!r}", timeout_s=40)
        assert text in self.text(), self.text()

    async def end(self) -> int:
        """Wait for its end; its return code."""
        await soon(lambda: self.process.poll() is not None, "the end of a program", timeout_s=40)
        return self.process.wait()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()


@contextmanager
def worker(queue: str, log: Path) -> Iterator[Program]:
    """A worker process of the configured engine; killed at the end."""
    program = Program("tests.r7kit.redflow.worker_program", arguments(queue), log)
    try:
        yield program
    finally:
        program.kill()
