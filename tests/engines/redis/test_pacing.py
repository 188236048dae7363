"""Workers that find a mass of work take turns at it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest

from redflow import define_workflow
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.loops.pacing import Turns
from tests.support.servers import ServerOptions, ServerProcess
from tests.support.world import Context, World, eventually


@pytest.fixture
async def world(redis_url: str, prefix: str) -> AsyncIterator[World]:
    world = World(redis_url, prefix)
    yield world
    await world.close()


async def test_a_turn_is_had_by_one_at_a_time(world: World) -> None:
    connection, key = world.client.connection, Keys.of(world.client.prefix).turn("promote")
    await connection.read("SET", key, "1")  # somebody's turn that does not end by itself
    waiting = asyncio.ensure_future(Turns(connection, key).take())
    await connection.read("PING")
    assert not (await asyncio.wait({waiting}, timeout=0.2))[0]
    await connection.read("DEL", key)
    await asyncio.wait_for(waiting, 10)


async def test_whoever_has_the_turns_gets_the_next_one_after_it_is_over(world: World) -> None:
    connection, key = world.client.connection, Keys.of(world.client.prefix).turn("promote")
    turns = Turns(connection, key)
    for _ in range(3):
        await asyncio.wait_for(turns.take(), 10)
    assert await connection.read("PTTL", key) != -1  # it goes by itself


async def test_a_full_server_does_not_stop_the_work_that_empties_it(
    private_server: Callable[[ServerOptions], ServerProcess], prefix: str
) -> None:
    server = private_server(ServerOptions(maxmemory=1))
    world = World(server.url, prefix)
    try:
        await asyncio.wait_for(Turns(world.client.connection, "turn").take(), 10)
    finally:
        await world.close()


async def test_more_due_runs_than_a_chunk_are_all_promoted_by_two_workers(world: World) -> None:
    async def handler(ctx: Context) -> None:
        pass

    define_workflow("w", handler=handler, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    at = datetime.now(UTC) + timedelta(milliseconds=500)
    await asyncio.gather(*[world.client.emit_workflow("w", None, run_at=at) for _ in range(350)])
    for _ in range(2):
        await world.small_worker(100)

    async def succeeded() -> int:
        return (await world.client.get_stats())["by_status"]["succeeded"]

    await eventually(succeeded, "all have run", until=(350).__eq__)
