"""Where an embedded server listens and keeps its data."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from redflow.engines.redis.embedded import (
    EmbeddedServer,
    EmbeddedServerError,
)
from redflow.engines.redis.embedded_directory import choose_socket, read_record
from redflow.engines.redis.urls import parse_url
from tests.engines.redis.embedded.starters import Starters, free_port, read, write


def test_a_port_besides_the_socket(directory: Path, binary: Path, starters: Starters) -> None:
    port = free_port()
    with EmbeddedServer(directory, port=port, binary=binary) as server:
        assert server.url == f"redis://127.0.0.1:{port}"
        write(server.url, "one")
        assert read(server.unix_url) == "one"
        assert starters.start(directory, port=port).report["owner"] is False
        other = EmbeddedServer(directory, port=port + 1, binary=binary)
        with pytest.raises(EmbeddedServerError, match=f"listens on port {port}, not on port {port + 1}"):
            other.start()


def test_a_port_can_not_be_added_to_a_running_server(server: EmbeddedServer, binary: Path) -> None:
    server.start()
    other = EmbeddedServer(server.directory, port=free_port(), binary=binary)
    with pytest.raises(EmbeddedServerError, match="listens on no port, not on port"):
        other.start()


def test_a_taken_port_is_said_plainly(directory: Path, binary: Path, server: EmbeddedServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedServerError, match=f"port {port} of 127.0.0.1 is taken") as failure:
            EmbeddedServer(directory, port=port, binary=binary).start()
    assert str(directory / "server.log") in str(failure.value)
    assert "already in use" in str(failure.value)
    server.start()  # the failure left no lock behind
    assert server.owner


@pytest.mark.parametrize("port", [0, -1, 65536, True, "6379"])
def test_a_bad_port_is_refused(port: int) -> None:
    with pytest.raises(ValueError, match="port must be a whole number from 1 to 65535"):
        EmbeddedServer("x", port=port)


def test_other_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="start_timeout_s must be a number of seconds above 0"):
        EmbeddedServer("x", start_timeout_s=0)
    with pytest.raises(ValueError, match="stop_timeout_s must be a number of seconds above 0"):
        EmbeddedServer("x", stop_timeout_s=float("nan"))


def test_a_long_path_gets_its_socket_elsewhere(tmp_path: Path, binary: Path, starters: Starters) -> None:
    directory = tmp_path / ("long" * 30) / "Mötley & 100% ?"
    owner = starters.start(directory)
    record = read_record(directory)
    assert record is not None
    place = Path(record.socket)
    assert not place.is_relative_to(directory)
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    write(str(owner.report["url"]), "one")
    assert starters.start(directory).report == {**owner.report, "owner": False}
    owner.kill()

    with EmbeddedServer(directory, binary=binary) as server:
        assert server.unix_url == owner.report["url"]
        assert read(server.url) == "one"
    assert not place.parent.exists()


def test_a_place_that_others_prepared_is_not_used(tmp_path: Path) -> None:
    directory = tmp_path / ("long" * 30)
    directory.mkdir()
    place = choose_socket(directory).parent
    place.chmod(0o755)
    try:
        with pytest.raises(EmbeddedServerError, match=r"no place for the server's socket.*somebody else"):
            choose_socket(directory)
    finally:
        place.rmdir()


def test_special_characters_in_the_path(tmp_path: Path, binary: Path) -> None:
    with EmbeddedServer(tmp_path / "a b?c#d%e", binary=binary) as server:
        write(server.url, "one")
        assert "a%20b%3Fc%23d%25e" in server.url
        assert server.socket_path == str(tmp_path / "a b?c#d%e" / "server.sock")
        assert parse_url(server.url).path == server.socket_path


def test_the_default_directory_is_below_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert EmbeddedServer().directory == tmp_path / ".redflow"
    assert EmbeddedServer("data/../other").directory == tmp_path / "other"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert EmbeddedServer("~/x").directory == tmp_path / "home" / "x"


def test_an_empty_directory_is_made_private(directory: Path, server: EmbeddedServer) -> None:
    directory.mkdir(mode=0o755)
    server.start()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_directory_in_use_keeps_its_permissions(directory: Path, server: EmbeddedServer) -> None:
    directory.mkdir(mode=0o755)
    (directory / "README").touch()
    server.start()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o755
    assert stat.S_IMODE((directory / "server.sock").stat().st_mode) == 0o600
    assert not (directory / ".gitignore").exists()


def test_a_directory_that_others_may_write_to_is_refused(directory: Path, server: EmbeddedServer) -> None:
    directory.mkdir()
    (directory / "README").touch()
    directory.chmod(0o777)
    with pytest.raises(EmbeddedServerError, match="other users may write to it"):
        server.start()


def test_a_file_in_the_place_of_the_directory_is_refused(directory: Path, server: EmbeddedServer) -> None:
    directory.touch()
    with pytest.raises(EmbeddedServerError, match=f"the data directory {directory} can't be used"):
        server.start()
