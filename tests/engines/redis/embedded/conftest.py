"""Fixtures for the tests of the embedded server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from redflow.engines.redis.embedded import EmbeddedServer
from tests.engines.redis.embedded.starters import Starters
from tests.support.servers import ServerKind, find_binary


@pytest.fixture
def binary(server_kind: ServerKind) -> Path:
    return find_binary(server_kind)


@pytest.fixture
def starters(binary: Path) -> Iterator[Starters]:
    made = Starters(binary)
    yield made
    made.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def server(directory: Path, binary: Path) -> Iterator[EmbeddedServer]:
    """A server that is not started yet."""
    server = EmbeddedServer(directory, binary=binary)
    yield server
    server.stop()
