"""Shards on a Redis Cluster: work spreads over its masters, and one that dies stops only what is on it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from redflow import RunHandle, workflow
from redflow.domain.shards import shard_of_name
from redflow.engines.redis.keys import Keys
from redflow.types import JsonData
from tests.support.clusters import SLOTS, RedisCluster, ask, in_step, slot_of
from tests.support.core_scenarios import CORE, Scenario, a_killed_worker_is_replaced, name_of
from tests.support.servers import ServerKind
from tests.support.world import Context, World, eventually, judged, soon

SHARDS = 3


@pytest.fixture(scope="module")
def cluster(server_kind: ServerKind) -> Iterator[RedisCluster]:
    """The cluster of these tests."""
    with RedisCluster(server_kind) as cluster:
        yield cluster


def spread_prefix(name: str) -> str:
    """A prefix of three shards, shard k among the slots that node k had in the beginning."""
    for number in itertools.count():
        prefix = f"{name}-{number}"
        slots = [slot_of(prefix, shard, SHARDS) for shard in range(SHARDS)]
        if [slot * 3 // SLOTS for slot in slots] == [0, 1, 2]:
            return prefix
    raise AssertionError


@pytest.fixture
async def world(cluster: RedisCluster, prefix: str) -> AsyncIterator[World]:
    """A prefix over all nodes. Judged at the end."""
    async with judged(World(cluster.url, spread_prefix(prefix), shards=SHARDS)) as world:
        yield world


@pytest.mark.parametrize("scenario", CORE, ids=name_of)
async def test_core(world: World, scenario: Scenario) -> None:
    await scenario(world)


async def test_the_keys_are_on_all_nodes_over_one_connection_each(cluster: RedisCluster, world: World) -> None:
    names = [f"w{n}" for n in range(20)]
    for name in names:

        @workflow(name, registry=world.registry)
        async def w(ctx: Context) -> object:
            return ctx.input

    await world.worker()
    handles = [await world.start(n, name=name) for n, name in enumerate(names)]
    assert [await handle.result() for handle in handles] == [*range(20)]
    for shard, node in enumerate(cluster.nodes):
        assert ask(node, "CLUSTER", "COUNTKEYSINSLOT", slot_of(world.prefix, shard, SHARDS)) > 5
    links = [connection._link._node for connection in world.connections]  # type: ignore[union-attr]
    assert len(set(links)) == SHARDS
    twice = World(cluster.url, world.prefix + "-6", shards=6)
    try:
        assert (await twice.client.get_stats())["total"] == 0
        nodes = {connection._link._node for connection in twice.connections}  # type: ignore[union-attr]
        assert len(nodes) == len({slot_of(twice.prefix, shard, 6) * 3 // SLOTS for shard in range(6)}) <= 3
    finally:
        await twice.close()


async def test_a_bell_is_heard_at_each_node(world: World) -> None:
    """The count of a PUBLISH is that of its own node: a worker that rings there stays the only one that is woken."""
    ran = asyncio.Event()

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        ran.set()
        return None

    connection, keys = world.place_of("w")
    workers = [await world.worker() for _ in range(3)]

    async def idle() -> object:
        return await connection.read("SCARD", f"{keys.base}idle:{workers[0].queues[0]}")

    await eventually(idle, "three idle workers", until=(3).__eq__)
    heard = [await connection.read("PUBLISH", keys.worker_channel(worker.id), b"wake nobody") for worker in workers]
    assert heard == [1, 1, 1]


@pytest.mark.faults
async def test_a_killed_worker_is_replaced(world: World, tmp_path: Path) -> None:
    await a_killed_worker_is_replaced(world, tmp_path)


def elsewhere(name: str) -> tuple[str, str]:
    """Names of workflows of shards 1 and 2."""
    found: dict[int, str] = {}
    for number in itertools.count():
        found.setdefault(shard_of_name(f"{name}{number}", SHARDS), f"{name}{number}")
        if found.keys() >= {1, 2}:
            return found[1], found[2]
    raise AssertionError


@pytest.mark.faults
async def test_a_node_that_is_down_stops_only_its_shard(cluster: RedisCluster, world: World) -> None:
    """With one slot: what waits for the dead node holds none of it."""
    here, down = elsewhere("apart")
    for name in (here, down):

        @workflow(name, registry=world.registry)
        async def w(ctx: Context) -> object:
            return ctx.input

    await world.small_worker(1)
    for node in cluster.nodes[:3]:
        ask(node, "CONFIG", "SET", "cluster-require-full-coverage", "no")
    first = await world.start(0, name=down)
    assert await first.result() == 0
    cluster.nodes[2].kill()
    try:
        handles = [await world.start(n, name=here) for n in range(20)]
        assert [await handle.result(timeout_ms=40_000) for handle in handles] == [*range(20)]
    finally:
        await asyncio.to_thread(cluster.nodes[2].start)
        for node in cluster.nodes[:3]:
            ask(node, "CONFIG", "SET", "cluster-require-full-coverage", "yes")
    await asyncio.to_thread(cluster.wait_ok)
    assert await (await world.start(1, name=down)).result(timeout_ms=40_000) == 1


@pytest.mark.faults
async def test_a_master_dies_and_its_replica_takes_over(cluster: RedisCluster, world: World) -> None:
    """Parents on one node wait for children on the one that dies; the third node goes on meanwhile."""
    parent, child = elsewhere("flow")
    begun: list[object] = []
    go = asyncio.Event()

    @workflow(child, registry=world.registry)
    async def on_the_second(ctx: Context) -> object:
        begun.append(ctx.input)
        await go.wait()
        return [ctx.input]

    @workflow(parent, registry=world.registry)
    async def on_the_first(ctx: Context) -> object:
        return await ctx.step.run_workflow("child", child, ctx.input)

    replica = cluster.add_replica(cluster.nodes[2])
    cluster.fails_over(after_ms=700)
    try:
        for _ in range(2):
            await world.worker()
        handles: list[RunHandle[JsonData]] = [await world.start(n, name=parent) for n in range(10)]
        await soon(lambda: len(begun) == 10, "the children")
        for handle in handles:
            await world.reaches(handle, "scheduled")
        await asyncio.to_thread(in_step, replica)
        cluster.nodes[2].kill()
        go.set()
        done = [await handle.result(timeout_ms=40_000) for handle in handles]
        assert done == [[n] for n in range(10)]
        stats = await world.client.get_stats()
        assert stats["by_status"]["succeeded"] == stats["total"] == 20
    finally:
        await asyncio.to_thread(cluster.nodes[2].start)
        in_step(cluster.nodes[2])
        cluster.fails_over(after_ms=15_000)


def test_a_prefix_of_one_shard_has_the_base_it_always_had() -> None:
    assert Keys.of("redflow:v1").base == Keys.of("redflow:v1", 0, 1).base
    assert [Keys.of("p", k, 3).base[-5:] for k in range(3)] == ["0/3}:", "1/3}:", "2/3}:"]
    assert [Keys.of("p", k, 3).shard for k in range(3)] == [0, 1, 2]
    assert Keys.of("p").shard == 0
