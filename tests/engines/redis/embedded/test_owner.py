"""One owner of an embedded server: start, stop, restart, and who gets at the data."""

from __future__ import annotations

import logging
import os
import signal
import stat
from pathlib import Path

import pytest
import redis

from redflow.engines.redis.embedded import (
    EmbeddedServer,
    EmbeddedServerError,
)
from redflow.engines.redis.embedded_directory import owner_alive, read_record
from redflow.engines.redis.embedded_process import ping
from tests.engines.redis.embedded.starters import read, wait_gone, write
from tests.support.servers import wait_until


def test_data_survives_a_restart(server: EmbeddedServer) -> None:
    server.start()
    assert server.owner
    write(server.url, "one")
    first = server.pid
    server.stop()
    assert repr(server) == f"<EmbeddedServer {server.directory} (stopped)>"
    server.start()
    assert server.pid != first
    assert read(server.url) == "one"


def test_every_change_is_logged_and_nothing_evicted(server: EmbeddedServer) -> None:
    server.start()
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        assert client.config_get("append*")["appendonly"] == "yes"
        assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("port") == {"port": "0"}


def test_start_and_stop_may_be_called_twice(server: EmbeddedServer) -> None:
    server.stop()
    server.start()
    pid = server.pid
    server.start()
    assert server.pid == pid
    server.stop()
    server.stop()
    assert ping(server.directory / "server.sock") == "down"


def test_a_server_that_is_not_started_has_no_url(server: EmbeddedServer) -> None:
    for name in ("url", "unix_url", "socket_path", "pid"):
        with pytest.raises(EmbeddedServerError, match="is not started"):
            getattr(server, name)
    assert not server.answers()
    assert repr(server) == f"<EmbeddedServer {server.directory} (stopped)>"


def test_only_the_user_gets_at_the_data(server: EmbeddedServer) -> None:
    server.start()
    write(server.url, "one")
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [server.directory, *server.directory.rglob("*")]}
    ignore = server.directory / ".gitignore"
    assert ignore.read_text() == "*\n"
    assert modes.pop(ignore)
    assert {path for path, mode in modes.items() if mode & 0o077} == set()
    assert modes[server.directory / "server.sock"] == 0o600
    assert any("appendonly" in path.name for path in modes)


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(server: EmbeddedServer) -> None:
    server.start()
    assert os.getsid(server.pid) == server.pid != os.getsid(0)


async def test_async_with(directory: Path, binary: Path) -> None:
    async with EmbeddedServer(directory, binary=binary) as server:
        assert server.owner
        assert read(server.url) is None
    assert not server.answers()


def test_with(directory: Path, binary: Path) -> None:
    with EmbeddedServer(directory, binary=binary) as server:
        assert server.answers()
        assert repr(server) == f"<EmbeddedServer {directory} (owner)>"
    assert not owner_alive(directory)


def test_a_server_that_was_killed_is_started_again(server: EmbeddedServer, caplog: pytest.LogCaptureFixture) -> None:
    server.start()
    write(server.url, "one")
    url, first = server.url, server.pid
    with caplog.at_level(logging.WARNING, "redflow"):
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: server.pid != first, timeout_s=10, what="a new server")
    assert server.url == url
    assert read(url) == "one"
    assert [record.getMessage() for record in caplog.records] == [
        "the embedded server ended with signal 9; starting it again"
    ]
    record = read_record(server.directory)
    assert record is not None
    assert record.server_pid == server.pid


def test_a_server_that_does_not_end_is_killed(directory: Path, binary: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = EmbeddedServer(directory, binary=binary, stop_timeout_s=0.1)
    server.start()
    write(server.url, "one")
    os.kill(server.pid, signal.SIGSTOP)
    pid = server.pid
    with caplog.at_level(logging.WARNING, "redflow"):
        server.stop()
    wait_gone(pid)
    assert "did not end within 0.1 s and is killed" in caplog.text
    with EmbeddedServer(directory, binary=binary) as again:
        assert read(again.url) == "one"
