"""Fixtures for the tests of the dashboard: a scene of real runs, and a browser's half of HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from redflow.dashboard import dashboard
from tests.dashboard.scene import Scene, set_up
from tests.dashboard.visitor import Visitor
from tests.support.world import World


@pytest.fixture
async def world(redis_url: str, prefix: str) -> AsyncIterator[World]:
    """A world that is closed at the end."""
    made = World(redis_url, prefix)
    yield made
    await made.close()


@pytest.fixture
async def scene(world: World) -> AsyncIterator[Scene]:
    """A run in every state."""
    made = await set_up(world)
    yield made
    made.go.set()


@pytest.fixture
async def visitor(world: World) -> AsyncIterator[Visitor]:
    """A visitor who may do everything, of a dashboard that hides passwords and tokens."""
    async with Visitor(dashboard(world.client, enable_actions=True, mask=("Password", "token"))) as made:
        yield made


@pytest.fixture
async def reader(world: World) -> AsyncIterator[Visitor]:
    """A visitor of a dashboard that is read-only."""
    async with Visitor(dashboard(world.client)) as made:
        yield made
