"""A server that this process owns: started under its directory's lock, and again when it ends by itself."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Final

from redflow.engines.redis.embedded_binary import EmbeddedServerError
from redflow.engines.redis.embedded_directory import DirectoryLock, ServerRecord, remove_socket
from redflow.engines.redis.embedded_process import ServerProcess, ServerSettings

log = logging.getLogger("redflow")

_STABLE_S: Final = 60.0
"""A server that ran this long was healthy: its end says nothing about the next one."""
_LONGEST_PAUSE_S: Final = 5.0


class OwnedServer:
    """One server from its construction to `stop`, in one or more processes one after another.

    Args:
        settings: how to run it.
        lock: the locks of its directory; `stop` releases them.
        start_timeout_s: longest time until it answers, seconds.

    Attributes:
        record: where it listens, and its present process id.

    Raises:
        EmbeddedServerError: it could not be started; the locks are still held.
    """

    def __init__(self, settings: ServerSettings, lock: DirectoryLock, *, start_timeout_s: float) -> None:
        self._settings = settings
        self._lock = lock
        self._start_timeout_s = start_timeout_s
        self._stopping = threading.Event()
        self._process, self.record = self._launch(time.monotonic() + start_timeout_s)
        self._thread = threading.Thread(target=self._supervise, name="redflow-embedded", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Let the server write what it has and end; kill it if it has not within `timeout_s` seconds."""
        try:
            self._lock.write_record(None)  # from now on nobody attaches
            self._stopping.set()
            self._process.request_stop()
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                log.warning("the embedded server did not end within %g s and is killed", timeout_s)
                self._process.kill()
                self._thread.join()
            remove_socket(self._settings.socket, self._settings.directory)
        finally:
            self._lock.release()

    def disown(self) -> None:
        """In a forked child: the server belongs to the parent."""
        self._process.disown()

    def _launch(self, deadline: float) -> tuple[ServerProcess, ServerRecord]:
        """Start one server process and wait until it answers."""
        process = ServerProcess(self._settings, lock_fd=self._lock.inheritable_fd)
        try:
            process.wait_ready(deadline, self._stopping)
            record = ServerRecord(
                pid=os.getpid(),
                server_pid=process.pid,
                socket=str(self._settings.socket),
                port=self._settings.port,
                started=time.time_ns() // 1_000_000,
                server=str(self._settings.binary),
            )
            self._lock.write_record(record)
        except BaseException:
            process.kill()
            process.wait()
            raise
        return process, record

    def _supervise(self) -> None:
        """The thread: wait for the end of the server and start it again, until `stop`."""
        failures = 0
        while True:
            began = time.monotonic()
            self._process.wait()
            if self._stopping.is_set():
                return
            failures = 0 if time.monotonic() - began > _STABLE_S else failures + 1
            log.warning("the embedded server ended with %s; starting it again", self._process.exit_text())
            while not self._stopping.wait(_pause_s(failures)):
                try:
                    self._process, self.record = self._launch(time.monotonic() + self._start_timeout_s)
                except EmbeddedServerError as exc:
                    failures += 1
                    log.error("%s", exc)
                else:
                    break
            if self._stopping.is_set():
                # stop() may have spoken to the process before this one.
                self._process.request_stop()


def _pause_s(failures: int) -> float:
    """How long to wait before a restart, seconds: not at all first, then longer and longer."""
    return 0.0 if failures <= 1 else min(0.1 * 2.0 ** (failures - 2), _LONGEST_PAUSE_S)
