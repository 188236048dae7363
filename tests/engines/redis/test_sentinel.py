"""Sentinel: everything works through it, and it may replace the master in the middle of work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel

from redflow import create_client, workflow
from redflow.engines.redis.connection import Connection
from redflow.errors import ConnectionError
from tests.support.clusters import SentinelGroup, ask, info, offset_of
from tests.support.core_scenarios import CORE, Scenario, a_killed_worker_is_replaced, name_of
from tests.support.load import check_load, define_load, feed
from tests.support.servers import ServerKind, ServerProcess
from tests.support.world import Context, World, impatient, judged, soon

WENT_BACK = "Redis went back in time"


@pytest.fixture(scope="module")
def group(server_kind: ServerKind) -> Iterator[SentinelGroup]:
    """The servers and Sentinels of these tests."""
    with SentinelGroup(server_kind) as group:
        yield group


@pytest.fixture
async def world(group: SentinelGroup, prefix: str) -> AsyncIterator[World]:
    """A prefix on whoever is the master. Judged at the end."""
    async with judged(World(group.url, prefix, direct=group.master.url)) as world:
        yield world


@pytest.mark.parametrize("scenario", CORE, ids=name_of)
async def test_core(world: World, scenario: Scenario) -> None:
    await scenario(world)


async def test_a_given_client(group: SentinelGroup, prefix: str) -> None:
    """What `Sentinel.master_for` gives; our connections ask the same Sentinels, and their owner goes on using it."""
    sentinel = Sentinel([("127.0.0.1", each.port) for each in group.sentinels])  # type: ignore[no-untyped-call]
    redis: Redis = sentinel.master_for(group.SERVICE, decode_responses=True)
    world = World(group.url, prefix, redis=lambda: redis, direct=group.master.url)
    try:

        @workflow("w", registry=world.registry)
        async def w(ctx: Context) -> object:
            return await ctx.step.run("one", lambda: ctx.input)

        assert await world.run(3) == 3
        await world.stop_workers()
        assert await redis.ping()
    finally:
        await world.close()
        for each in sentinel.sentinels:
            await each.aclose()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+sentinel://127.0.0.1:1,127.0.0.1:2/main", "connecting to 127.0.0.1:1"),
        ("redis+sentinel://127.0.0.1:{port}/other", "the Sentinels know no master named 'other'"),
    ],
)
async def test_no_master_is_found(group: SentinelGroup, url: str, why: str) -> None:
    """One line that says where and why."""
    client = impatient(create_client(url=url.format(port=group.sentinels[0].port), prefix="nowhere"))
    with pytest.raises(ConnectionError) as caught:
        await client.get_stats()
    await client.close()
    text = str(caught.value)
    assert text.startswith("can't reach redis+sentinel://127.0.0.1:")
    assert why in text
    assert "\n" not in text


@pytest.mark.faults
async def test_a_killed_worker_is_replaced(world: World, tmp_path: Path) -> None:
    await a_killed_worker_is_replaced(world, tmp_path)


@pytest.mark.faults
async def test_sentinels_that_hang_or_are_gone_are_not_waited_for(group: SentinelGroup, world: World) -> None:
    """One of three is enough: one is dead, and one accepts connections and says nothing."""
    live, hanging, _ = group.sentinels
    world.url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{hanging.port},127.0.0.1:{live.port}/{group.SERVICE}"
    client = world.new_client()
    hanging.pause()
    try:
        began = time.monotonic()
        assert (await client.get_stats())["total"] == 0
        assert time.monotonic() - began < 3
    finally:
        hanging.resume()


async def rests(connection: Connection) -> None:
    """Wait until its next call will ask the Sentinels first."""
    loop = asyncio.get_running_loop()
    await soon(lambda: loop.time() - connection._asked_at > 2, "two seconds of rest")


@pytest.mark.faults
async def test_a_planned_failover_under_load(group: SentinelGroup, world: World) -> None:
    """SENTINEL FAILOVER: the old master lives on as a replica, and nobody goes on talking to it."""
    define_load(world)
    await world.worker()
    former, replica = group.master, group.replica
    handles = await feed(world, 20)
    reached = offset_of(former)
    await soon(lambda: offset_of(replica) >= reached, "the replica to have it all")
    ask(group.sentinels[0], "SENTINEL", "FAILOVER", group.SERVICE)
    await asyncio.to_thread(group.wait_for_master, replica)
    assert info(former, "replication")["role"] == "master", "it has not been told yet, and accepts what will be lost"
    await rests(world.client.connection)
    handles += [await world.start(n, name="plain" if n % 3 == 0 else "w") for n in range(20, 30)]
    await check_load(world, handles, again=60)
    assert world.client.connection.peer == ("127.0.0.1", replica.port)
    await asyncio.to_thread(group.rejoin, former)


@pytest.mark.faults
async def test_the_master_dies_in_the_middle_of_work(
    group: SentinelGroup, world: World, record_property: Callable[[str, object], None]
) -> None:
    """What was accepted and replicated survives; a step that was recorded and replicated does not run again."""
    began, go = asyncio.Event(), asyncio.Event()

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        async def second() -> object:
            world.did.append(f"second {ctx.input}")
            if len(world.did) == 20:
                began.set()
            await go.wait()
            return ctx.input

        await ctx.step.run("first", world.did.append, f"first {ctx.input}")
        return await ctx.step.run("second", second)

    await world.worker()
    handles = [await world.start(n) for n in range(40)]
    await began.wait()
    former, replica = group.master, group.replica
    reached = offset_of(former)
    await soon(lambda: offset_of(replica) >= reached, "the replica to have it all")

    former.kill()
    killed_at = time.monotonic()
    go.set()  # the steps end while nobody can write it down
    await handles[0].result()
    took_s = time.monotonic() - killed_at
    record_property("seconds_until_work_went_on", round(took_s, 1))
    assert took_s < 12
    assert [await handle.result() for handle in handles] == list(range(40))
    assert all(world.did.count(f"first {n}") == 1 for n in range(40))
    assert all(world.did.count(f"second {n}") <= 2 for n in range(40))
    assert (await world.client.get_stats())["total"] == 40
    await asyncio.to_thread(former.start)
    await asyncio.to_thread(group.rejoin, former)


@pytest.mark.faults
async def test_a_replica_that_lagged_takes_over(
    group: SentinelGroup, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """What it never heard of is gone; workers say once that Redis went back in time, and the rest goes on."""
    begun, go = asyncio.Event(), asyncio.Event()

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        async def second() -> None:
            world.did.append("second")
            begun.set()
            await go.wait()

        await ctx.step.run("first", world.did.append, "first")
        await ctx.step.run("second", second)
        return ctx.run.attempt

    def epoch(server: ServerProcess) -> int:
        return int(ask(server, "GET", f"{world.keys.base}epoch") or 0)

    await world.worker(replace(world.options(), lease_ms=400))
    handle = await world.start()
    await begun.wait()
    former, replica = group.master, group.replica
    reached = offset_of(former)
    await soon(lambda: offset_of(replica) >= reached and epoch(replica) > 0, "the replica to have it all")
    group.cut_replication()
    await soon(lambda: epoch(former) > epoch(replica) + 3, "heartbeats that the replica does not hear of")
    late = await world.start()

    former.kill()
    await asyncio.to_thread(group.wait_for_master, replica)
    await soon(lambda: WENT_BACK in caplog.text, "a word of it")
    await soon(lambda: world.did.count("second") == 2, "the step that nobody could record to begin anew")
    go.set()
    assert await handle.result() == 1
    assert world.did.count("first") == 1
    assert await late.get_state() is None
    before = epoch(replica)
    await soon(lambda: epoch(replica) > before + 3, "more heartbeats")
    assert caplog.text.count(WENT_BACK) == 1
    await asyncio.to_thread(former.start)
    await asyncio.to_thread(group.rejoin, former)
