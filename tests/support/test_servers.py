"""The server of this run starts, keeps its data when told to, and goes when it should."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.servers import (
    ServerKind,
    ServerOptions,
    ServerProcess,
    ServerStartError,
    wait_until,
)

VERSIONS = {ServerKind.BUNDLED: (7, 2), ServerKind.REDIS62: (6, 2), ServerKind.REDIS70: (7, 0)}


@pytest.fixture
def connect() -> Iterator[Connector]:
    """Open clients that are closed at the end of the test."""
    connector = Connector()
    yield connector
    connector.close()


class Connector:
    """Opens blocking clients and closes them."""

    def __init__(self) -> None:
        self._clients: list[redis.Redis] = []

    def __call__(self, url: str) -> redis.Redis:
        client = redis.Redis.from_url(url, decode_responses=True)
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.close()


def test_starts_on_port_and_socket_and_leaves_nothing(server_kind: ServerKind, connect: Connector) -> None:
    with ServerProcess(server_kind) as server:
        assert connect(server.url).set("key", "value")
        assert connect(server.unix_url).get("key") == "value"
        info = connect(server.url).info("server")
        version = tuple(map(int, info["redis_version"].split(".")[:2]))
        assert version >= VERSIONS[server_kind]
        assert server_kind is not ServerKind.REDIS62 or version == (6, 2)
        pid, directory = server.pid, server.directory
    assert not directory.exists()
    assert not _alive(pid)


def test_restart_keeps_port_and_data_with_appendonly(server_kind: ServerKind, connect: Connector) -> None:
    with ServerProcess(server_kind, ServerOptions(appendonly=True)) as server:
        url, pid = server.url, server.pid
        connect(url).set("key", "value")
        server.restart()
        assert (server.url, server.pid != pid) == (url, True)
        assert connect(url).get("key") == "value"


def test_restart_without_appendonly_is_empty(server_kind: ServerKind, connect: Connector) -> None:
    with ServerProcess(server_kind) as server:
        connect(server.url).set("key", "value")
        server.restart()
        assert connect(server.url).get("key") is None


def test_kill_is_a_crash_that_start_recovers_from(server_kind: ServerKind, connect: Connector) -> None:
    with ServerProcess(server_kind, ServerOptions(appendonly=True)) as server:
        connect(server.url).set("key", "value")
        pid = server.pid
        server.kill()
        assert not _alive(pid)
        with pytest.raises(redis.ConnectionError):
            connect(server.url).ping()
        server.start()
        assert connect(server.url).get("key") == "value"


def test_paused_server_answers_again_after_resume(server_kind: ServerKind) -> None:
    with ServerProcess(server_kind) as server, redis.Redis.from_url(server.url, socket_timeout=0.2) as client:
        client.ping()
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
        assert client.ping()


def test_stop_ends_a_paused_server(server_kind: ServerKind) -> None:
    server = ServerProcess(server_kind)
    server.start()
    pid = server.pid
    server.pause()
    server.stop()
    assert not _alive(pid)


def test_password_and_users(server_kind: ServerKind, connect: Connector) -> None:
    options = ServerOptions(
        requirepass="p@ss:w/rd", users=("app on >secret ~app* resetchannels &app* +@all -@dangerous",)
    )
    with ServerProcess(server_kind, options) as server:
        assert connect(server.url).ping()
        assert connect(server.unix_url).ping()
        with pytest.raises(redis.AuthenticationError):
            connect(f"redis://127.0.0.1:{server.port}").ping()
        app = connect(f"redis://app:secret@127.0.0.1:{server.port}")
        assert app.set("app:key", "value")
        with pytest.raises(redis.exceptions.NoPermissionError):
            app.set("other", "value")


def test_password_alone(server_kind: ServerKind, connect: Connector) -> None:
    with ServerProcess(server_kind, ServerOptions(requirepass="secret")) as server:
        assert connect(server.url).ping()
        with pytest.raises(redis.AuthenticationError):
            connect(f"redis://127.0.0.1:{server.port}").ping()


def test_maxmemory_refuses_writes(server_kind: ServerKind, connect: Connector) -> None:
    with ServerProcess(server_kind, ServerOptions(maxmemory=1)) as server:
        client = connect(server.url)
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("key", "value")


def test_start_failure_shows_the_log(server_kind: ServerKind) -> None:
    server = ServerProcess(server_kind, ServerOptions(config=("no-such-setting yes",)))
    with pytest.raises(ServerStartError, match="no-such-setting"):
        server.start()
    server.stop()


def test_server_does_not_outlive_a_killed_owner() -> None:
    script = (
        "import sys, signal\n"
        "from tests.support.servers import ServerProcess, selected_kind\n"
        "server = ServerProcess(selected_kind())\n"
        "server.start()\n"
        "print(server.pid, server.directory, flush=True)\n"
        "signal.pause()\n"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", script], cwd=root, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid, directory = owner.stdout.readline().split()
        assert _alive(int(pid))
        owner.send_signal(signal.SIGKILL)
    wait_until(lambda: not _alive(int(pid)), timeout_s=10, what="end of the server")
    wait_until(lambda: not Path(directory).exists(), timeout_s=10, what="removal of its directory")


def _alive(pid: int) -> bool:
    """Whether the process runs; a zombie that nobody has reaped yet does not."""
    try:
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], check=False, capture_output=True, text=True)
    except FileNotFoundError:
        return Path(f"/proc/{pid}/exe").exists()
    return state.stdout.strip() != "" and not state.stdout.startswith("Z")
