"""A world of its own for every test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.world import World


@pytest.fixture
async def world(redis_url: str, prefix: str) -> AsyncIterator[World]:
    """A prefix of the shared server with a registry, a client and, on demand, workers."""
    world = World(redis_url, prefix)
    yield world
    await world.close()
