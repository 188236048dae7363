"""What the tests of task flows share: a Temporal server for the session, and settings of each test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from r7kit import config
from tests.support.servers import ServerProcess
from tests.support.temporal import TemporalProcess


@pytest.fixture(scope="session")
def temporal() -> Iterator[TemporalProcess]:
    """The Temporal server that tests share."""
    with TemporalProcess() as server:
        yield server


@pytest.fixture
def settings(server: ServerProcess, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[config.Settings]:
    """Settings of the test's own: the shared Redis, and a stream that no other test writes to."""
    for variable in ("REDIS_URL", "TEMPORAL_ADDRESS", "R7KIT_ENGINE", "R7KIT_TASK_TTL", "R7KIT_STREAM"):
        monkeypatch.delenv(variable, raising=False)
    config.reset()
    config.configure(redis_url=server.url, stream_default=f"{prefix}:events")
    yield config.current()
    config.reset()
