"""A world of its own for every test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.world import World, judged


@pytest.fixture
async def world(redis_url: str, prefix: str) -> AsyncIterator[World]:
    """A prefix of the shared server with a registry, a client and, on demand, workers; judged at the end."""
    async with judged(World(redis_url, prefix)) as world:
        yield world
