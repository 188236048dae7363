"""What can go wrong at the start of an embedded server: one clear error, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from redflow.engines.redis.embedded import (
    EmbeddedServer,
    EmbeddedServerError,
)
from redflow.engines.redis.embedded_directory import owner_alive
from tests.engines.redis.embedded.starters import Starters, fake_binary, write
from tests.support.servers import wait_until


def test_a_chosen_program_that_is_none_is_refused(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError, match=r"the server program can't be used: .* does not run"):
        EmbeddedServer(directory, binary=tmp_path / "missing").start()


def test_a_server_that_ends_at_once_gives_the_end_of_its_log(directory: Path, tmp_path: Path) -> None:
    script = "for i in $(seq 30); do echo line $i; done; exit 3"
    program = fake_binary(tmp_path / "redis-server", "Redis server v=7.2.0", script)
    with pytest.raises(EmbeddedServerError, match="ended with exit code 3") as failure:
        EmbeddedServer(directory, binary=program).start()
    text = str(failure.value)
    assert "line 30" in text
    assert "line 16" in text
    assert "line 15" not in text
    assert not owner_alive(directory)


def test_damaged_data_is_an_error_that_tells_the_servers_reason(server: EmbeddedServer, directory: Path) -> None:
    server.start()
    write(server.url, "one")
    server.stop()
    damaged = max((path for path in directory.rglob("*aof*") if path.is_file()), key=lambda path: path.name)
    damaged.write_bytes(b"this is no log of changes\n")
    with pytest.raises(EmbeddedServerError, match="ended with exit code 1") as failure:
        server.start()
    assert "format" in str(failure.value).lower()
    assert not server.owner


def test_a_server_that_never_answers_is_given_up(directory: Path, tmp_path: Path, server: EmbeddedServer) -> None:
    program = fake_binary(tmp_path / "redis-server", "Redis server v=7.2.0", "exec sleep 1000")
    with pytest.raises(EmbeddedServerError, match="does not answer at the end of the time it was given"):
        EmbeddedServer(directory, binary=program, start_timeout_s=0.1).start()
    server.start()  # its process is gone, else it would still hold the lock
    assert server.owner


def test_a_lock_without_a_server_is_waited_for_and_then_said(
    directory: Path, tmp_path: Path, starters: Starters
) -> None:
    program = fake_binary(tmp_path / "redis-server", "Redis server v=7.2.0", "exec sleep 1000")
    starting = starters.make(directory, binary=str(program))
    starting.begin()
    wait_until(lambda: owner_alive(directory), timeout_s=10, what="the lock")
    with pytest.raises(EmbeddedServerError, match=r"another process holds .*server\.lock.* within 0\.1 s"):
        EmbeddedServer(directory, start_timeout_s=0.1).start()


def test_data_of_a_newer_server_is_not_mistaken_for_none(directory: Path, tmp_path: Path) -> None:
    (directory / "appendonlydir").mkdir(parents=True)
    (directory / "server.lock").touch()
    old = fake_binary(tmp_path / "redis-server", "Redis server v=6.2.14")
    with pytest.raises(EmbeddedServerError, match=r"was written by a server of version 7\.0 or later"):
        EmbeddedServer(directory, binary=old).start()


def test_a_long_log_is_moved_aside(directory: Path, server: EmbeddedServer) -> None:
    directory.mkdir()
    (directory / "server.log").write_bytes(b"x" * (5 * 1024 * 1024))
    server.start()
    assert (directory / "server.log.1").stat().st_size == 5 * 1024 * 1024
    assert 0 < (directory / "server.log").stat().st_size < 100_000
