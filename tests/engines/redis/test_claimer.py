"""How a worker fills its slots."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from redflow import define_workflow
from tests.support.world import Context, World, soon

SLOTS = 250
"""More than one claim may bring."""


@pytest.fixture
async def world(redis_url: str, prefix: str) -> AsyncIterator[World]:
    world = World(redis_url, prefix)
    yield world
    await world.close()


async def test_more_slots_than_a_claim_brings_are_filled_at_once(world: World) -> None:
    """A claim that was cut short by its own limit is followed by the next, not by the slow check."""
    running = 0
    release = asyncio.Event()

    async def handler(ctx: Context) -> None:
        nonlocal running
        running += 1
        await release.wait()

    define_workflow("w", handler=handler, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    handles = await asyncio.gather(*[world.start() for _ in range(SLOTS)])
    # Neither the slow check (it waits as long as a lease) nor the watchdog may help within the test's patience.
    patient = replace(
        world.options(), concurrency=SLOTS, lease_ms=60_000, blmove_timeout_sec=60, watchdog_enabled=False
    )
    await world.worker(patient)
    await soon(lambda: running == SLOTS, f"{SLOTS} running handlers")
    release.set()
    await asyncio.gather(*[handle.result() for handle in handles])
