"""Real `redflow` processes for the tests, and what they print as it comes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

DEADLINE_S = 30.0
"""How long anything may take that a test waits for; only a failing test waits so long."""


@dataclass
class Program:
    """A `redflow` command in a process of its own; its output is read as it comes."""

    process: subprocess.Popen[str]
    _lines: list[tuple[str, str]] = field(default_factory=list)
    _grown: threading.Condition = field(default_factory=threading.Condition)
    _readers: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, stream in (("out", self.process.stdout), ("err", self.process.stderr)):
            assert stream is not None
            reader = threading.Thread(target=self._read, args=(name, stream), daemon=True)
            reader.start()
            self._readers.append(reader)

    def _read(self, name: str, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with self._grown:
                    self._lines.append((name, line.rstrip("\n")))
                    self._grown.notify_all()

    @property
    def out(self) -> list[str]:
        """Lines on stdout so far."""
        return [line for name, line in self._lines if name == "out"]

    @property
    def err(self) -> list[str]:
        """Lines on stderr so far."""
        return [line for name, line in self._lines if name == "err"]

    @property
    def text(self) -> str:
        """Everything so far."""
        return "\n".join(f"{name}: {line}" for name, line in self._lines)

    def wait_for(self, pattern: str, *, times: int = 1) -> re.Match[str]:
        """Wait until a line matches, the `times`-th one counted from the start; returns its match."""

        def matches() -> list[re.Match[str]]:
            return [match for _, line in self._lines if (match := re.search(pattern, line))]

        with self._grown:
            if not self._grown.wait_for(lambda: len(matches()) >= times, DEADLINE_S):
                raise AssertionError(f"no line {pattern!r} ({times} times) in\n{self.text}")
            return matches()[times - 1]

    def worker_pid(self, *, times: int = 1) -> int:
        """Process id of the `times`-th worker process that was ready."""
        return int(self.wait_for(r"worker (\d+) is ready", times=times)[1])

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the command alone."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end and the end of its output; the exit code."""
        code = self.process.wait(DEADLINE_S)
        for reader in self._readers:
            reader.join(DEADLINE_S)
        return code

    def interrupt(self) -> int:
        """End it as Ctrl-C does; the exit code."""
        self.send(signal.SIGINT)
        return self.wait()

    def kill(self) -> None:
        """End it and its worker processes, if they still run."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            for pid in re.findall(r"worker (\d+) is ready", self.text):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        for reader in self._readers:
            reader.join(DEADLINE_S)


class Programs:
    """Starts `redflow` commands in a directory; none outlives the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.made: list[Program] = []

    def start(self, *arguments: str, stdin: str | None = None, **environment: str) -> Program:
        """Start `redflow <arguments>`, without any variable of ours but those given."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("REDIS_", "REDFLOW_"))}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "redflow", *arguments],  # -P: as the script, not from the current directory
            cwd=self.directory,
            env=clean | {"COLUMNS": "120", "NO_COLOR": "1"} | environment,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        program = Program(process)
        self.made.append(program)
        if process.stdin is not None:
            with process.stdin:
                process.stdin.write(stdin or "")
        return program

    def run(self, *arguments: str, stdin: str | None = None, **environment: str) -> tuple[int, Program]:
        """Run a command to its end; its exit code and what it printed."""
        program = self.start(*arguments, stdin=stdin, **environment)
        return program.wait(), program

    def write(self, path: str, text: str) -> Path:
        """Write a file of the project, whole at once as editors do."""
        file = self.directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(".new")
        fresh.write_text(text, "utf-8")
        fresh.replace(file)
        return file

    def close(self) -> None:
        """Kill what still runs."""
        for program in self.made:
            program.kill()
