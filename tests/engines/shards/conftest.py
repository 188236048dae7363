"""A world of three shards for every test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.world import World, judged

SHARDS = 3


@pytest.fixture
async def world(redis_url: str, prefix: str) -> AsyncIterator[World]:
    """A prefix of three shards on the shared server; judged at the end."""
    async with judged(World(redis_url, prefix, shards=SHARDS)) as world:
        yield world
