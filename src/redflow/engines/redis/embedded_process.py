"""One process of the embedded server, and the guard that ends it when this process dies.

The guard is a small shell process that reads a pipe whose other end only this process holds. When this
process is gone, however it went, the pipe ends, and the guard asks the server to finish (SIGTERM) and kills
it if it has not after ten seconds. The kernel's own way (PR_SET_PDEATHSIG) exists on Linux only and fires
already when the *thread* dies that started the server; the pipe is the same on Linux and macOS.

There is no moment without cover: the server's process first writes its id into the guard's pipe and only then
becomes the server. When the server ends by itself, the guard is told, so that it never signals an id that
belongs to another program by then.

Both processes have a session of their own: Ctrl-C in the terminal and a closed terminal concern the owner
only.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final, Literal

from redflow.engines.redis.embedded_binary import EmbeddedServerError, ServerBinary
from redflow.engines.redis.embedded_directory import PrivateFd

AppendFsync = Literal["always", "everysec", "no"]
"""When the server makes the operating system write its log to the disk; see Redis' setting `appendfsync`."""

PingResult = Literal["ready", "loading", "down"]
"""What a server answered: it works, it still reads its data, or it did not answer."""

_PING_TIMEOUT_S: Final = 1.0
_LOG_TAIL_LINES: Final = 15
_LOG_TAIL_BYTES: Final = 8192
_LOG_ROTATE_BYTES: Final = 4 * 1024 * 1024

# The bundled server allocates by the C library, which keeps seven freed pieces of each size at hand; a batch of runs
# frees hundreds. With more of them the server needs an eighth less time for a run. At most 33 MB are kept so. Other C
# libraries, and servers with an allocator of their own, don't look at it; what somebody has set stays.
_SERVER_SCRIPT: Final = """
umask 077
export GLIBC_TUNABLES="${GLIBC_TUNABLES-glibc.malloc.tcache_count=1000:glibc.malloc.mxfast=0}"
echo "$$" >&0
exec "$@" </dev/null
"""
# First line: the server's id. Then silence while all is well, a line when the server is gone, the end of the
# pipe when the owner is.
_GUARD_SCRIPT: Final = """
trap '' HUP INT TERM
read -r server || exit 0
read -r gone && exit 0
kill -TERM "$server" || exit 0
tries=0
while [ "$tries" -lt 200 ]; do
    sleep 0.05
    kill -0 "$server" || exit 0
    tries=$((tries + 1))
done
kill -KILL "$server"
"""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How a server is run.

    Attributes:
        binary: the program.
        directory: where its data and its log are.
        socket: where it listens.
        log: file that takes its output.
        port: a port of 127.0.0.1 it also listens on, or None.
        appendfsync: when its log of changes is forced to the disk.
    """

    binary: ServerBinary
    directory: Path
    socket: Path
    log: Path
    port: int | None
    appendfsync: AppendFsync

    def command(self) -> list[str]:
        """The program with its arguments: every change is logged (AOF), snapshots are off."""
        settings = {
            "dir": str(self.directory),
            "port": str(self.port or 0),
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket),
            "unixsocketperm": "600",
            "appendonly": "yes",
            "appendfsync": self.appendfsync,
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        arguments = [text for name, value in settings.items() for text in (f"--{name}", value)]
        return [str(self.binary.path), *arguments]


class ServerProcess:
    """A server process that runs from its construction on, with its guard.

    Args:
        settings: how to run it.
        lock_fd: descriptor of the directory's lock, which the server keeps as long as it lives.

    Raises:
        EmbeddedServerError: the process can't be started.
    """

    def __init__(self, settings: ServerSettings, *, lock_fd: int) -> None:
        self._settings = settings
        try:
            log, self._log_start = _open_log(settings.log)
            with log:
                self._lifeline, self._guard = _start_guard()
                try:
                    self._server = subprocess.Popen(
                        ["/bin/sh", "-c", _SERVER_SCRIPT, "redflow-server", *settings.command()],
                        stdin=self._lifeline.fileno(),
                        stdout=log,
                        stderr=log,
                        pass_fds=(lock_fd,),
                        cwd="/",
                        start_new_session=True,
                    )
                except BaseException:
                    self._dismiss_guard()
                    raise
        except OSError as exc:
            raise EmbeddedServerError(f"the embedded server can't be started: {exc}") from exc

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._server.pid

    def wait_ready(self, deadline: float, cancelled: threading.Event) -> None:
        """Wait until the server has read its data and answers.

        Args:
            deadline: `time.monotonic()` at which to give up.
            cancelled: give up when this is set.

        Raises:
            EmbeddedServerError: it ended, or was not ready in time; the text has the last lines of its log.
        """
        pause_s = 0.002
        while True:
            if self._server.poll() is not None:
                self._dismiss_guard()
                raise EmbeddedServerError(self._failure(f"ended with {self.exit_text()}"))
            state = ping(self._settings.socket)
            if state == "ready":
                return
            if time.monotonic() > deadline:
                what = "is still reading its data" if state == "loading" else "does not answer"
                raise EmbeddedServerError(self._failure(f"{what} at the end of the time it was given"))
            if cancelled.wait(pause_s):
                raise EmbeddedServerError("the embedded server was stopped before it was ready")
            pause_s = min(pause_s * 1.5, 0.05)

    def wait(self) -> None:
        """Wait until the server has ended; one thread at a time."""
        self._server.wait()
        self._dismiss_guard()

    def exit_text(self) -> str:
        """How the server ended, for people."""
        code = self._server.returncode
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def request_stop(self) -> None:
        """Ask the server to write what it has and to end; returns before it has ended.

        SHUTDOWN works at once; SIGTERM, for a server that takes no command, at the next tick of its clock.
        """
        if not _shutdown(self._settings.socket):
            self._server.terminate()

    def kill(self) -> None:
        """End the server without asking it."""
        self._server.kill()

    def disown(self) -> None:
        """In a forked child: the server and the guard are children of the parent, not of this process."""
        self._server.returncode = self._guard.returncode = 0

    def _dismiss_guard(self) -> None:
        if self._lifeline.fileno() < 0:
            return
        # A guard that somebody killed has nobody to guard any more.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._lifeline.fileno(), b"\n\n")
        self._lifeline.close()
        self._guard.wait()

    def _failure(self, what: str) -> str:
        tail = self._log_tail()
        if self._settings.port is not None and "in use" in tail:
            what = f"could not start, since port {self._settings.port} of 127.0.0.1 is taken by another program"
        said = f"; it said:\n{tail}" if tail else ""
        return f"the embedded server {self._settings.binary} {what}. Log: {self._settings.log}{said}"

    def _log_tail(self) -> str:
        """The last lines that this process wrote."""
        try:
            with self._settings.log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start, size - _LOG_TAIL_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except FileNotFoundError:  # somebody removed it: the error then goes without it
            return ""
        return "\n".join(f"  {line}" for line in lines[-_LOG_TAIL_LINES:])


def ping(path: Path) -> PingResult:
    """Ask the server at a socket how it is; takes a second at most."""
    try:
        answer = _ask(path, b"PING\r\n")
    except OSError:
        return "down"
    if answer.startswith(b"-LOADING"):
        return "loading"
    # An error (too many clients, a full disk) is for the commands that meet it: the server runs.
    return "ready" if answer.startswith((b"+PONG", b"-")) else "down"


def _shutdown(path: Path) -> bool:
    """Whether the server at a socket takes a SHUTDOWN: it then hangs up without an answer."""
    try:
        return _ask(path, b"SHUTDOWN\r\n") == b""
    except ConnectionResetError:
        return True
    except OSError:
        return False


def _ask(path: Path, command: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_PING_TIMEOUT_S)
        connection.connect(os.fsencode(path))
        connection.sendall(command)
        return connection.recv(128)


def _start_guard() -> tuple[PrivateFd, subprocess.Popen[bytes]]:
    """Start the guard; returns our end of its pipe and the process."""
    reading, writing = os.pipe()
    lifeline = PrivateFd(writing)
    try:
        guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD_SCRIPT, "redflow-guard"],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
    except BaseException:
        lifeline.close()
        raise
    finally:
        os.close(reading)
    return lifeline, guard


def _open_log(path: Path) -> tuple[FileIO, int]:
    """Open the log for appending, a long one moved aside first; returns it and its length so far."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > _LOG_ROTATE_BYTES:
            path.replace(path.with_name(f"{path.name}.1"))
    log = FileIO(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "a")
    return log, log.seek(0, os.SEEK_END)
