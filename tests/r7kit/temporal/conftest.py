"""A worker in the test's own event loop, on the shared Temporal server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from r7kit import config
from tests.r7kit.temporal.stage import Stage
from tests.support.temporal import TemporalProcess


@pytest.fixture
async def stage(settings: config.Settings, temporal: TemporalProcess, prefix: str) -> AsyncIterator[Stage]:
    """A queue with a worker for `tests.r7kit.temporal.flows`."""
    config.configure(temporal_address=temporal.address)
    async with Stage(queue=prefix) as stage:
        yield stage
