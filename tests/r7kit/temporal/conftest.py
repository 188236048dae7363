"""Workers on the shared Temporal server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from r7kit import config
from tests.r7kit.temporal.stage import Stage, WorkerThread
from tests.support.servers import ServerProcess
from tests.support.temporal import TemporalProcess

QUEUE = "r7kit-tests"
STREAM = "r7kit-tests:events"


@pytest.fixture(scope="session")
def worker(server: ServerProcess, temporal: TemporalProcess) -> Iterator[None]:
    """A worker for `tests.r7kit.temporal.flows` on the queue QUEUE that tests share: making one takes a while."""
    config.configure(redis_url=server.url, temporal_address=temporal.address, stream_default=STREAM)
    thread = WorkerThread(QUEUE)
    thread.start()
    yield
    thread.end()


@pytest.fixture
async def stage(
    worker: None, settings: config.Settings, temporal: TemporalProcess, prefix: str
) -> AsyncIterator[Stage]:
    """The shared queue, which has a worker."""
    config.configure(temporal_address=temporal.address, stream_default=STREAM)
    async with Stage(QUEUE, name=prefix, served=True) as stage:
        yield stage


@pytest.fixture
async def own_stage(settings: config.Settings, temporal: TemporalProcess, prefix: str) -> AsyncIterator[Stage]:
    """A queue of the test's own, with a worker that it may end."""
    config.configure(temporal_address=temporal.address)
    async with Stage(queue=prefix) as stage:
        yield stage
