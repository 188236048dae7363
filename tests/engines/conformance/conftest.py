"""A world of its own for every test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.invariants import check_invariants
from tests.support.world import World


@pytest.fixture
async def world(redis_url: str, prefix: str) -> AsyncIterator[World]:
    """A prefix of the shared server with a registry, a client and, on demand, workers; judged at the end."""
    world = World(redis_url, prefix)
    yield world
    try:
        await world.stop_workers()
        await check_invariants(world.client.connection, prefix)
    finally:
        await world.close()
