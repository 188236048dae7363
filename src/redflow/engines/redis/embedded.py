"""The embedded server: a real Valkey or Redis that this process starts, watches and stops.

`EmbeddedServer` belongs to a data directory. Whoever starts first owns the server; whoever starts while it
runs, in this process or another, attaches to it and stops nothing. The life of the server is the life of its
owner:

- `stop()` ends it in order, and what was written is there at the next start.
- An owner that dies takes its server along, even after `kill -9` (see `embedded_process`). Processes that had
  attached lose their connection then; the first of them that starts again becomes the owner and has the data.
- A server that ends by itself (killed, out of memory) is started again by its owner, on the same socket.

A process forked by the owner is no owner: its `EmbeddedServer` turns into an attached one.

The data is written as a log of changes (AOF), by default forced to the disk every second: what was written
survives the death of any process (a server killed while the disk lags behind may lose two seconds), and all
but the last two seconds survive the death of the machine. Only the user who owns the directory can connect,
except with `port=`: a port of 127.0.0.1 is open to every user of the machine and asks for no password.

Clients in one process share a server through `ensure_embedded`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

from redflow.engines.redis.embedded_binary import (
    EmbeddedServerError,
    ServerBinary,
    find_server_binary,
    inspect_server_binary,
    refuse_windows,
)
from redflow.engines.redis.embedded_directory import (
    LOG,
    SERVER_LOCK,
    DirectoryLock,
    ServerRecord,
    choose_socket,
    owner_alive,
    prepare_directory,
    read_record,
)
from redflow.engines.redis.embedded_process import AppendFsync, ServerSettings, ping
from redflow.engines.redis.embedded_supervisor import OwnedServer
from redflow.engines.redis.urls import DEFAULT_EMBEDDED_DIRECTORY

__all__ = [
    "AppendFsync",
    "EmbeddedServer",
    "EmbeddedServerError",
    "ServerBinary",
    "ensure_embedded",
    "find_server_binary",
]

_T = TypeVar("_T")


class EmbeddedServer:
    """The server of one data directory, owned or attached; see the module's text.

    Start and stop it with `start()` and `stop()`, with `with`, or with `async with`. Both are safe to call
    twice, and a stopped one can be started again.

    Args:
        directory: where its data, lock files, log and socket are; made when missing. Relative to the working
            directory, `~` is expanded.
        port: also listen on this port of 127.0.0.1 (1 to 65535). None: on the unix socket only.
        appendfsync: when changes are forced to the disk: "everysec", "always" (slower, survives power loss)
            or "no".
        start_timeout_s: longest time until the server answers, which includes reading its data, seconds.
        stop_timeout_s: longest time for an orderly end, seconds; then it is killed.
        binary: the server program; None means the bundled one, else one on PATH.

    Raises:
        ValueError: an option is out of range.

    Example:
        >>> async with EmbeddedServer("./data") as server:
        ...     client = create_client(url=server.url)
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        port: int | None = None,
        appendfsync: AppendFsync = "everysec",
        start_timeout_s: float = 60.0,
        stop_timeout_s: float = 10.0,
        binary: Path | None = None,
    ) -> None:
        if port is not None and not (type(port) is int and 1 <= port <= 65535):
            raise ValueError(f"port must be a whole number from 1 to 65535, got {port!r}")
        if appendfsync not in ("always", "everysec", "no"):
            raise ValueError(f"appendfsync must be always, everysec or no, got {appendfsync!r}")
        for name, seconds in (("start_timeout_s", start_timeout_s), ("stop_timeout_s", stop_timeout_s)):
            if not seconds > 0:
                raise ValueError(f"{name} must be a number of seconds above 0, got {seconds!r}")
        self._directory = Path(DEFAULT_EMBEDDED_DIRECTORY if directory is None else directory).expanduser().resolve()
        self._port = port
        self._appendfsync: AppendFsync = appendfsync
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._binary = binary
        self._users = 0
        self._mutex = threading.Lock()
        self._owned: OwnedServer | None = None
        self._attached: ServerRecord | None = None
        _servers.add(self)

    # --- what it is -----------------------------------------------------------------------------------------

    @property
    def directory(self) -> Path:
        """The data directory, absolute."""
        return self._directory

    @property
    def log_path(self) -> Path:
        """The file that has the server's log."""
        return self._directory / LOG

    @property
    def owner(self) -> bool:
        """Whether this object started the server and its stop will end it."""
        return self._owned is not None

    @property
    def pid(self) -> int:
        """Process id of the server; after a restart another one.

        Raises:
            EmbeddedServerError: it is not started.
        """
        return self._started().server_pid

    @property
    def url(self) -> str:
        """Where clients connect: `redis://127.0.0.1:<port>` when a port was asked for, else `unix_url`.

        Raises:
            EmbeddedServerError: it is not started.
        """
        self._started()
        return self.unix_url if self._port is None else f"redis://127.0.0.1:{self._port}"

    @property
    def unix_url(self) -> str:
        """The URL of the unix socket, the faster way for this machine and the protected one.

        Raises:
            EmbeddedServerError: it is not started.
        """
        return f"unix://{quote(self.socket_path)}"

    @property
    def socket_path(self) -> str:
        """The path of the unix socket, as it is: in `unix_url` it is percent-encoded.

        Raises:
            EmbeddedServerError: it is not started.
        """
        return self._started().socket

    def answers(self) -> bool:
        """Whether the server runs and works right now; blocks for a second at most."""
        record = self._record()
        return record is not None and ping(Path(record.socket)) == "ready"

    def _record(self) -> ServerRecord | None:
        owned = self._owned
        return self._attached if owned is None else owned.record

    def _started(self) -> ServerRecord:
        record = self._record()
        if record is None:
            raise EmbeddedServerError(f"the embedded server of {self._directory} is not started")
        return record

    def __repr__(self) -> str:
        state = "owner" if self.owner else "stopped" if self._attached is None else "attached"
        return f"<EmbeddedServer {self._directory} ({state})>"

    # --- start ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the server, or attach to the one that runs; returns when it answers.

        Raises:
            EmbeddedServerError: it can't be found, started or reached. The text says why, with the last
                lines of the server's log.
        """
        refuse_windows()
        with self._mutex:
            if self._owned is not None or self.answers():
                return
            self._attached = None
            prepare_directory(self._directory)
            deadline = time.monotonic() + self._start_timeout_s
            pause_s = 0.002
            while True:
                lock = DirectoryLock.try_acquire(self._directory)
                if lock is not None:
                    self._own(lock)
                    return
                record = self._attachable()
                if record is not None:
                    self._attach(record)
                    return
                if time.monotonic() > deadline:
                    raise EmbeddedServerError(
                        f"another process holds {self._directory / SERVER_LOCK}, but no server answered "
                        f"within {self._start_timeout_s:g} s. Log: {self.log_path}"
                    )
                # Only a blocking flock would tell when the lock is free, and that takes no limit of time.
                time.sleep(pause_s)
                pause_s = min(pause_s * 1.5, 0.05)

    def _attachable(self) -> ServerRecord | None:
        """The running server's record, if its owner lives and it answers."""
        record = read_record(self._directory)
        if record is None or not owner_alive(self._directory) or ping(Path(record.socket)) != "ready":
            return None
        return record

    def _attach(self, record: ServerRecord) -> None:
        if self._port is not None and record.port != self._port:
            listens = "on no port" if record.port is None else f"on port {record.port}"
            raise EmbeddedServerError(
                f"a server for {self._directory} runs already (owned by process {record.pid}) and listens "
                f"{listens}, not on port {self._port}: stop it first"
            )
        self._attached = record

    def _own(self, lock: DirectoryLock) -> None:
        try:
            self._owned = OwnedServer(self._settings(), lock, start_timeout_s=self._start_timeout_s)
        except BaseException:
            lock.release()
            raise

    def _settings(self) -> ServerSettings:
        binary = find_server_binary() if self._binary is None else inspect_server_binary(self._binary)
        if not isinstance(binary, ServerBinary):
            raise EmbeddedServerError(f"the server program can't be used: {binary}")
        if binary.version < (7, 0, 0) and (self._directory / "appendonlydir").exists():
            # It would not see the data and start empty.
            raise EmbeddedServerError(
                f"the data in {self._directory} was written by a server of version 7.0 or later; {binary} can't read it"
            )
        return ServerSettings(
            binary=binary,
            directory=self._directory,
            socket=choose_socket(self._directory),
            log=self.log_path,
            port=self._port,
            appendfsync=self._appendfsync,
        )

    # --- stop -----------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End the server if this object owns it, else only detach. The data stays for the next start.

        The server is asked to write everything and to end; it is killed when it has not within
        `stop_timeout_s`.
        """
        with self._mutex:
            owned, self._owned, self._attached = self._owned, None, None
            if owned is not None:
                owned.stop(self._stop_timeout_s)

    async def release(self) -> None:
        """Give back what `ensure_embedded` returned; the last user to do so stops the server, if owned."""
        await _in_thread(lambda: _release_shared(self))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await _in_thread(self.start, undo=lambda _: self.stop())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await _in_thread(self.stop)

    def _after_fork(self) -> None:
        """In a forked child: no owner any more, and a mutex that no thread of the parent holds."""
        self._mutex = threading.Lock()
        owned, self._owned = self._owned, None
        if owned is not None:
            owned.disown()
            self._attached = owned.record


# --- one server for all clients of a process ----------------------------------------------------------------


async def ensure_embedded(directory: str | os.PathLike[str] | None = None) -> EmbeddedServer:
    """The running server of a data directory, shared by everybody in this process who asks for it.

    Every call counts as one user, and every user calls `await server.release()` when done: the last one
    stops the server, if this process owns it. When the server had another owner who is gone, a call takes
    over.

    Args:
        directory: the data directory; None means `./.redflow`.

    Raises:
        EmbeddedServerError: it can't be found, started or reached.
    """
    return await _in_thread(lambda: _acquire_shared(directory), undo=_release_shared)


_servers: weakref.WeakSet[EmbeddedServer] = weakref.WeakSet()
_shared: dict[Path, EmbeddedServer] = {}
_shared_lock = threading.Lock()
"""Held while a shared server starts or stops, so that nobody gets one that is about to end."""


def _acquire_shared(directory: str | os.PathLike[str] | None) -> EmbeddedServer:
    fresh = EmbeddedServer(directory)
    with _shared_lock:
        server = _shared.get(fresh.directory)
        # One that is owned and does not answer is being restarted by its supervisor.
        if server is None or not (server.owner or server.answers()):
            server = fresh
            server.start()
            _shared[server.directory] = server
        server._users += 1
        return server


def _release_shared(server: EmbeddedServer) -> None:
    with _shared_lock:
        server._users -= 1
        if server._users > 0:
            return
        if _shared.get(server.directory) is server:
            del _shared[server.directory]
        server.stop()


def _after_fork_in_child() -> None:
    global _shared_lock
    _shared_lock = threading.Lock()
    for server in list(_servers):
        server._after_fork()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_after_fork_in_child)


async def _in_thread(work: Callable[[], _T], *, undo: Callable[[_T], None] | None = None) -> _T:
    """Run blocking work in a thread of its own: the loop's default executor may be full of hung steps.

    A caller that is cancelled does not wait; `undo` is then called with the result as soon as there is one.
    """
    future: concurrent.futures.Future[_T] = concurrent.futures.Future()
    future.set_running_or_notify_cancel()  # from here on a cancelled caller can't cancel it

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as exc:
            future.set_exception(exc)

    def undo_result(done: concurrent.futures.Future[_T]) -> None:
        if undo is not None and done.exception() is None:
            threading.Thread(target=undo, args=(done.result(),), name="redflow-embedded-undo").start()

    threading.Thread(target=run, name="redflow-embedded-start", daemon=True).start()
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        future.add_done_callback(undo_result)
        raise
